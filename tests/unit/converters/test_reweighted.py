"""Bounds of F1, precision and recall by reweighting: Clopper-Pearson's where they must be, and what was not seen."""

from __future__ import annotations

import numpy as np
import pytest
from edgesdk_converters.evaluate import scores
from edgesdk_converters.evaluate.catalogue import METRICS, Case
from edgesdk_converters.evaluate.compare import Question, compare
from edgesdk_converters.evaluate.gate import Outcome, judge_case
from edgesdk_converters.evaluate.reweighted import DRAWS, reweigh

from edgesdk.contract import Contract, TensorSpec
from edgesdk.stats import binomial_at_least, clopper_pearson


def figure(answers, truth, name="f1", *, classes=2, weighted=False):
    return scores.averaged(np.eye(classes)[answers], truth, classes, name, weighted=weighted)


def lost(count, wrong, name="f1", *, weighted=False):
    """Return a source that has all right, and an artifact that has `wrong` of two like classes wrong."""
    truth = np.arange(count) % 2
    answers = np.where(np.arange(count) < wrong, 1 - truth, truth)
    return (figure(each, truth, name, weighted=weighted) for each in (truth, answers))


@pytest.mark.parametrize("wrong", [0, 1, 7, 30])
def test_a_share_of_samples_gets_clopper_and_pearsons_bound(wrong):
    """Recall by the classes' size is accuracy; where the source has all right its p-value is the binomial's."""
    source, artifact = lost(300, wrong, "recall", weighted=True)
    drawn = reweigh(source.of_classes, artifact.of_classes)
    for margin in (0.01, 0.04, 0.15):
        exact = 1 - binomial_at_least(wrong + 1, 300, margin)
        # Four standard errors of so many draws, and the one that is counted for none.
        allowed = 4 * (exact * (1 - exact) / DRAWS) ** 0.5 + 1 / DRAWS
        assert drawn.p_values(margin)[1] == pytest.approx(exact, abs=allowed)
    upper = clopper_pearson(wrong, 300)[1]
    assert -drawn.interval(0.05)[0] == pytest.approx(upper, abs=0.003)


@pytest.mark.parametrize(("count", "shown"), [(400, False), (700, True)])
def test_the_same_answers_pass_only_where_a_loss_would_have_been_seen(count, shown):
    """Of 400 samples at a limit of one point, 1.8 % of artifacts at the limit lose none: no proof at alpha 1 %."""
    source, artifact = lost(count, 0)
    found = compare(source, artifact, count, Question(margin=0.01, alpha=0.01))
    assert (found.method, found.loss) == ("reweighted", 0)
    assert (found.p_below <= 0.01) is shown
    assert found.p_above > 0.9
    assert found.interval[0] < 0 < found.interval[1]


def test_an_artifact_at_the_limit_is_passed_no_more_often_than_stated():
    """It loses one answer of a hundred: of 200 samples it often loses none, and the bootstrap passed those (13 %)."""
    random, truth, passed = np.random.default_rng(2), np.arange(200) % 2, 0
    source = figure(truth, truth).of_classes
    for _ in range(200):
        artifact = figure(np.where(random.random(200) < 0.01, 1 - truth, truth), truth).of_classes
        passed += reweigh(source, artifact, draws=1000).p_values(0.01)[1] <= 0.01
    assert passed <= 6  # three standard errors above 1 % of 200


def test_a_rare_class_makes_more_samples_needed():
    """Macro F1 lets a class of twenty count as much as one of a thousand: what it may lose unseen is told."""
    truth = np.arange(1020) < 20
    same = figure(truth.astype(int), truth.astype(int))
    found = compare(same, same, 1020, Question(margin=0.01, alpha=0.01))
    assert found.p_below > 0.01
    assert found.needed is not None
    assert 4_000 < found.needed < 20_000
    whole = figure(truth.astype(int), truth.astype(int), weighted=True)
    assert compare(whole, whole, 1020, Question(margin=0.01, alpha=0.01)).p_below <= 0.01


def test_the_number_that_is_needed_decides():
    """As many samples as it names, alike, are decided; half of them are not."""
    source, artifact = lost(200, 2)
    question = Question(margin=0.03, alpha=0.01)
    few = compare(source, artifact, 200, question)
    assert few.needed is not None
    verdicts = []
    for count in (few.needed // 2, round(1.1 * few.needed)):
        more = compare(*lost(count, round(count / 100)), count, question)
        verdicts.append(more.p_below <= 0.01)
    assert verdicts == [False, True]


@pytest.mark.parametrize("name", ["f1", "precision", "recall"])
def test_a_loss_and_a_gain_mirror_each_other(name):
    """Source and artifact exchanged: the same p-values and interval, but for what other draws make of them."""
    random = np.random.default_rng(1)
    truth = random.integers(0, 4, 500)
    answers = [np.where(random.random(500) < right, truth, random.integers(0, 4, 500)) for right in (0.9, 0.8)]
    first, second = (figure(each, truth, name, classes=4).of_classes for each in answers)
    forth, back = reweigh(first, second), reweigh(second, first)
    assert forth.p_values(0.05) == pytest.approx(back.p_values(-0.05)[::-1], abs=0.015)
    assert forth.interval(0.05) == pytest.approx([-end for end in back.interval(0.05)[::-1]], abs=0.003)
    assert forth.losses.mean() == pytest.approx(forth.source_value - forth.value, abs=0.01)


def test_answers_that_are_no_number_cost_like_wrong_ones():
    """A model that answers NaN for a tenth of the samples is refused; so is one whose every answer is NaN."""
    truth = np.arange(600) % 3
    for broken in (60, 600):
        outputs = np.eye(3)[truth]
        outputs[:broken] = np.nan
        found = compare(
            figure(truth, truth, classes=3),
            scores.averaged(outputs, truth, 3, "f1", weighted=False),
            600,
            Question(margin=0.01, alpha=0.01),
        )
        assert found.p_above <= 0.01


def test_a_thousand_classes_take_no_minute():
    """Two samples of each of a thousand classes, answered alike: with classes of one size that is as for accuracy."""
    truth = np.arange(2000) % 1000
    same = scores.averaged(np.eye(1000, dtype=np.float32)[truth], truth, 1000, "f1", weighted=False)
    drawn = reweigh(same.of_classes, same.of_classes, draws=500)
    up, down = clopper_pearson(0, 2000, 0.1)
    assert up == 0
    assert drawn.interval(0.1) == pytest.approx((-down, down), abs=0.0005)


def test_many_classes_of_few_samples_decide_nothing():
    """Macro F1 of forty classes is biased by more than its spread below their square of samples: it takes 1,600."""
    for count, shown in ((1500, False), (1700, True)):
        truth = np.arange(count) % 40
        same = figure(truth, truth, classes=40)
        found = compare(same, same, count, Question(margin=0.05, alpha=0.01))
        assert (found.p_below <= 0.01) is shown
    few = compare(*(figure(truth[:400], truth[:400], classes=40),) * 2, 400, Question(margin=0.05, alpha=0.01))
    assert few.needed == 1600


def test_the_gate_says_how_many_samples_f1_needs():
    """Most of the rare class lost: refused. One of twenty lost: not enough data, with a number."""
    contract = Contract(
        version="1.0",
        task="classification",
        inputs=(TensorSpec(name="x", shape=(1, 2)),),
        outputs=(TensorSpec(name="out", shape=(1, 2)),),
    )
    truth = (np.arange(600) < 20).astype(np.int64)
    words = {"contract": contract, "reference": {"out": np.eye(2)[truth]}, "truth": truth}
    verdicts = []
    for lost_ in (1, 15):
        answers = np.where(np.arange(600) < lost_, 0, truth)
        source, artifact = (Case(outputs={"out": np.eye(2)[each]}, **words) for each in (truth, answers))
        verdicts.append(judge_case(METRICS["f1"], source, artifact, max_drop=0.05))
    assert [verdict.outcome for verdict in verdicts] == [Outcome.NOT_ENOUGH_DATA, Outcome.REFUSE]
    assert verdicts[0].method == "reweighted"
    assert f"about {verdicts[0].needed} samples would decide" in verdicts[0].reason
