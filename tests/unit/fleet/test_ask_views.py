"""How a device's replies and refusals are shown, whatever the device puts into them."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from edgesdk.cli.fleet_views import answer_lines, refusal
from edgesdk.errors import CODES, FAMILIES

TEXT = st.text(max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=4
)


def shown(what, result):
    return answer_lines("dev-1", what, {"id": "x", "result": result, "reason": None, "seconds": 0.4567})


def test_each_answer_has_its_words():
    """A ping tells the time, logs their lines, a table of facts the rest."""
    assert shown("ping", {"pong": True}) == ["dev-1 answered in 0.46 s"]
    assert shown("deploy-now", {"started": True}) == ["dev-1 looks at the repository and at its desired document now"]
    assert shown("logs", {"lines": ["one", "two"]}) == ["one", "two"]
    assert shown("benchmark", {"p50_ms": 1.5, "backend": "tflite"}) == ["p50_ms   1.5", "backend  tflite"]


@given(st.sampled_from(["ping", "deploy-now", "logs", "status", "benchmark"]), st.dictionaries(TEXT, JSON, max_size=3))
def test_no_reply_steers_the_terminal_or_breaks_the_view(what, result):
    """Whatever a device replies is shown without control characters."""
    assert all(line.isprintable() for line in shown(what, result))


@given(st.fixed_dictionaries({"lines": JSON}))
@example({"lines": None})
def test_lines_of_any_form_are_shown(result):
    """Lines that are no list of texts are shown as they are."""
    assert all(line.isprintable() for line in shown("logs", result))


@given(st.sampled_from(sorted(CODES)) | TEXT, TEXT, TEXT)
def test_a_refusal_keeps_the_devices_words_and_family(code, message, hint):
    """A code that is known gives its family's exit code; another one is named in the message."""
    error = refusal("dev-1", {"code": code, "message": message, "hint": hint})
    family = CODES[code].family if code in CODES else "DeploymentError"
    assert isinstance(error, FAMILIES[family])
    assert error.message.startswith("dev-1 says: ")
    assert error.message.isprintable()
    assert error.hint.isprintable()
    assert error.hint
    assert (error.code == code) is (code in CODES) or code == "command-refused"
