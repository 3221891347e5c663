"""The accuracy gate refuses shown losses, passes shown equality, and says when it cannot know."""

import numpy as np
import pytest
from edgesdk_converters.evaluate.gate import Outcome, accuracy_gate, of_itself


def _case(n: int, wins: int, losses: int):
    """Return reference outputs, artifact outputs and truth with so many discordant samples, half of the rest right."""
    truth = np.zeros(n, dtype=np.int64)
    before, now = np.arange(n) % 2, np.arange(n) % 2
    before[:wins], now[:wins] = 1, 0
    before[wins : wins + losses], now[wins : wins + losses] = 0, 1
    return np.eye(2)[before], np.eye(2)[now], truth


@pytest.mark.parametrize(
    ("n", "wins", "losses", "outcome"),
    [
        (2000, 0, 0, Outcome.PASS),
        (2000, 20, 22, Outcome.PASS),
        (2000, 10, 150, Outcome.REFUSE),
        (250, 0, 60, Outcome.REFUSE),
        (100, 1, 2, Outcome.NOT_ENOUGH_DATA),
    ],
)
def test_outcomes(n, wins, losses, outcome):
    """Clear cases get the clear word."""
    assert accuracy_gate(*_case(n, wins, losses)).outcome is outcome


def test_says_how_many_samples_would_decide():
    """Too few samples: the verdict names a number, and that many samples at the same rates do decide."""
    verdict = accuracy_gate(*_case(100, 2, 2))
    assert verdict.needed is not None
    assert f"about {verdict.needed} samples" in verdict.reason
    scale = verdict.needed / 100
    again = accuracy_gate(*_case(verdict.needed, round(2 * scale), round(2 * scale)))
    assert again.outcome is Outcome.PASS


def test_a_loss_at_the_limit_has_no_number():
    """A loss exactly at the limit is undecidable and the reason says so."""
    verdict = accuracy_gate(*_case(500, 5, 15), max_drop=0.02)
    assert verdict.outcome is Outcome.NOT_ENOUGH_DATA
    assert verdict.needed is None
    assert "too near the limit" in verdict.reason


def test_nan_is_refused_whatever_the_accuracy():
    """One NaN among perfect answers refuses."""
    reference, artifact, truth = _case(2000, 0, 0)
    artifact[7, 0] = np.nan
    verdict = accuracy_gate(reference, artifact, truth)
    assert verdict.outcome is Outcome.REFUSE
    assert verdict.non_finite == 1
    assert "NaN" in verdict.reason


def test_figures_are_those_of_the_samples():
    """Accuracies, agreement and the interval describe the samples given."""
    verdict = accuracy_gate(*_case(1000, 30, 10))
    assert verdict.value - verdict.source_value == pytest.approx(0.02)
    assert verdict.interval[0] < 0.02 < verdict.interval[1]
    assert (verdict.wins, verdict.losses, verdict.samples) == (30, 10, 1000)


def test_misfitting_truth_is_refused():
    """Truth of another length is the caller's error."""
    reference, artifact, truth = _case(10, 0, 0)
    with pytest.raises(ValueError, match="truth"):
        accuracy_gate(reference, artifact, truth[:5])


@pytest.mark.parametrize(
    ("case", "outcome"), [((100, 0, 0), Outcome.PASS), ((2000, 0, 0), Outcome.PASS), ((250, 0, 60), Outcome.REFUSE)]
)
def test_few_samples_leave_nothing_open_about_the_source_itself(case, outcome):
    """What is one file in one runtime loses nothing, however few they are; a shown fault stays one."""
    verdict = of_itself(accuracy_gate(*_case(*case)))
    assert (verdict.outcome, verdict.needed) == (outcome, None)
