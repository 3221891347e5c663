"""The testing worker judges real models in a real child process, and survives whatever they do to it."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from edgesdk_agent.workers.client import AgentStopping, ChildWorkers
from edgesdk_agent.workers.messages import Judgement, JudgeNewcomer

from edgesdk.bundle.archive import BundleFile
from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import DeploymentError
from edgesdk.generation import TrialPolicy

Unpack = Callable[[BundleFile], Path]
Make = Callable[..., BundleFile]
PERMUTED = (1, 2, 0)


def judge(newcomer: Path, *, incumbent: Path | None = None, anchor: Path | None = None, **policy: float) -> Judgement:
    request = JudgeNewcomer(
        newcomer=str(newcomer),
        incumbent=str(incumbent) if incumbent else None,
        anchor=str(anchor) if anchor else None,
        policy=TrialPolicy(**policy),
    )
    return ChildWorkers().test(request)


def code(judgement: Judgement) -> str | None:
    return judgement.reason.code if judgement.reason else None


def test_a_good_first_release_passes(make_bundle: Make, unpack: Unpack) -> None:
    """A sound release passes parity, its own truth and the latency budget; the judgement carries the figures."""
    judgement = judge(unpack(make_bundle()), slow_ms=5000.0)
    assert judgement.passed, judgement.reason
    assert not judgement.weak
    assert judgement.parity is not None
    assert judgement.parity.share == 1.0
    assert [(result.judge, result.n, result.newcomer_score) for result in judgement.truth] == [("own", 300, 1.0)]
    assert judgement.latency is not None
    assert 0 < judgement.latency.p50_ms <= judgement.latency.p95_ms
    assert judgement.peak_memory > 10_000_000
    assert judgement.backend.startswith("onnxruntime")


def test_few_examples_are_a_weak_judge(make_bundle: Make, unpack: Unpack) -> None:
    """Under 200 labelled examples a release passes, but it is said that the judge was weak."""
    judgement = judge(unpack(make_bundle(truth=50)))
    assert judgement.passed
    assert judgement.weak
    assert judgement.truth[0].verdict == "weak"


def test_permuted_labels_are_caught_by_the_incumbent(make_bundle: Make, unpack: Unpack) -> None:
    """A release whose golden set agrees with its wrong labels is refused by the good generation's examples."""
    permuted = np.roll(np.eye(4, 3, dtype=np.float32), 1, axis=1)
    newcomer = unpack(make_bundle("2.0.0", matrix=permuted, relabel=PERMUTED))
    assert judge(newcomer).passed, "its own golden set knows nothing"
    judgement = judge(newcomer, incumbent=unpack(make_bundle()))
    assert not judgement.passed
    assert code(judgement) == "golden-truth-loss"
    assert judgement.reason is not None
    assert judgement.reason.permanent
    by_judge = {result.judge: result.verdict for result in judgement.truth}
    assert by_judge == {"own": "passed", "incumbent": "refused"}


def test_permuted_labels_of_a_first_release_are_caught_by_the_anchor(make_bundle: Make, unpack: Unpack) -> None:
    """A first release has no incumbent; the anchor set of the signed policy judges it."""
    permuted = np.roll(np.eye(4, 3, dtype=np.float32), 1, axis=1)
    newcomer = unpack(make_bundle("1.0.0", matrix=permuted, relabel=PERMUTED))
    judgement = judge(newcomer, anchor=unpack(make_bundle("0.0.1")))
    assert code(judgement) == "golden-truth-loss"
    assert {result.judge: result.verdict for result in judgement.truth}["anchor"] == "refused"


def test_reordered_labels_are_judged_by_name(make_bundle: Make, unpack: Unpack) -> None:
    """A release that only orders its classes differently is right: names are compared, never indices."""
    terms = Contract(
        version="1.1",
        task="classification",
        inputs=(TensorSpec(name="x", shape=(1, 4)),),
        outputs=(TensorSpec(name="scores", shape=(1, 3)),),
        labels=("left", "up", "down"),
        margin=0.02,
    )
    reordered = np.roll(np.eye(4, 3, dtype=np.float32), 1, axis=1)
    flags = np.ones(300, np.bool_)
    newcomer = unpack(make_bundle("2.0.0", matrix=reordered, terms=terms, correct=flags))
    judgement = judge(newcomer, incumbent=unpack(make_bundle()))
    assert judgement.passed, judgement.reason
    assert [result.newcomer_score for result in judgement.truth] == [1.0, 1.0]


def test_a_small_loss_within_the_margin_passes(make_bundle: Make, unpack: Unpack) -> None:
    """One lost example of 300 shows no loss above a margin of 2 %."""
    incumbent = unpack(make_bundle())
    tilted = np.eye(4, 3, dtype=np.float32)
    tilted[0, 0] = 0.99
    judgement = judge(unpack(make_bundle("1.0.1", matrix=tilted)), incumbent=incumbent)
    assert judgement.passed, judgement.reason


def test_nan_is_refused(make_bundle: Make, unpack: Unpack) -> None:
    """A model that answers NaN on its own parity inputs is refused, whatever outputs it claims."""
    inputs = -np.ones((4, 1, 4), np.float32)
    with np.errstate(invalid="ignore"):
        newcomer = unpack(make_bundle("2.0.0", logarithm=True, parity_inputs=inputs))
    assert code(judge(newcomer)) == "output-nan"


def test_mismatched_parity_is_refused(make_bundle: Make, unpack: Unpack) -> None:
    """Outputs that differ from the expected ones beyond tolerance mean that this device computes it wrongly."""
    judgement = judge(unpack(make_bundle(parity_shift=0.01)))
    assert code(judgement) == "golden-mismatch"
    assert judgement.parity is not None
    assert judgement.parity.largest == pytest.approx(0.01, rel=1e-3)


def test_an_artifact_that_does_not_load_is_refused(make_bundle: Make, unpack: Unpack) -> None:
    """Garbage instead of a model is a judgement (permanent), not a failed worker."""
    judgement = judge(unpack(make_bundle(artifact=b"garbage" * 100)))
    assert code(judgement) == "artifact-unloadable"


def test_too_slow_is_refused(make_bundle: Make, unpack: Unpack) -> None:
    """A budget that no machine meets is exceeded."""
    assert code(judge(unpack(make_bundle()), slow_ms=1e-6)) == "latency-budget"


def test_slower_than_the_good_release_is_refused_with_its_cures(make_bundle: Make, unpack: Unpack) -> None:
    """Beyond `max_slowdown` it is refused, and the hint names the option that allows it."""
    newcomer, incumbent = unpack(make_bundle("2.0.0")), unpack(make_bundle())
    judgement = judge(newcomer, incumbent=incumbent, max_slowdown=1e-6)
    assert code(judgement) == "latency-budget"
    assert judgement.reason is not None
    assert "--trial-max-slowdown" in judgement.reason.hint
    assert "another runtime" in judgement.reason.hint


def test_a_new_major_that_takes_other_inputs_is_not_judged_by_the_old(make_bundle: Make, unpack: Unpack) -> None:
    """Where the incumbent's examples cannot be fed to a new major, the judge is weak and says so; a minor may not."""
    incumbent = unpack(make_bundle())
    for version, passed in (("2.0", True), ("1.1", False)):
        terms = Contract(
            version=version,
            task="classification",
            inputs=(TensorSpec(name="renamed", shape=(1, 4)),),
            outputs=(TensorSpec(name="scores", shape=(1, 3)),),
            labels=("up", "down", "left"),
        )
        judgement = judge(unpack(make_bundle(f"{version}.0", terms=terms)), incumbent=incumbent)
        assert judgement.passed is passed
        if passed:
            assert judgement.weak
        else:
            assert code(judgement) == "input-missing"


def test_a_memory_limit_holds(make_bundle: Make, unpack: Unpack) -> None:
    """With too little address space for its runtime a release is refused for good, not tried for ever."""
    judgement = judge(unpack(make_bundle()), testing_memory_bytes=1 << 20)
    assert code(judgement) == "memory-budget"
    assert judgement.reason is not None
    assert judgement.reason.permanent


def script(folder: Path, text: str) -> ChildWorkers:
    path = folder / "worker.py"
    path.write_text(text)
    return ChildWorkers(testing=(sys.executable, str(path)), trust=(sys.executable, str(path)))


def request(seconds: float = 30.0) -> JudgeNewcomer:
    return JudgeNewcomer(newcomer="/none", policy=TrialPolicy(testing_seconds=seconds))


def test_a_segfault_is_a_typed_error(tmp_path: Path) -> None:
    """A runtime that segfaults kills its child only; the error is `testing-crashed` and names the signal."""
    workers = script(tmp_path, "import ctypes; ctypes.string_at(0)")
    with pytest.raises(DeploymentError, match="SIGSEGV") as caught:
        workers.test(request())
    assert caught.value.code == "testing-crashed"


def test_a_hang_is_killed_with_its_children(tmp_path: Path) -> None:
    """A child that hangs is killed at its limit, and so is what it started."""
    pids = tmp_path / "pids"
    workers = script(
        tmp_path,
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n",
    )
    with pytest.raises(DeploymentError) as caught:
        workers.test(request(seconds=5.0))
    assert caught.value.code == "testing-timeout"
    assert ended(int(pids.read_text()))


def ended(pid: int) -> bool:
    """Wait until a process that is not our child is gone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    readable, _, _ = select.select([handle], [], [], 20)
    os.close(handle)
    return bool(readable)


@pytest.mark.parametrize(
    "text",
    [
        "raise SystemExit(3)",
        "print('noise on stdout')",
        'print(\'{"ok": true, "result": {"unknown": 1}}\')',
        'print(\'{"ok": false, "error": {"code": "no-such-code", "message": "x"}}\')',
    ],
)
def test_an_answer_that_cannot_be_read_is_a_failed_worker(tmp_path: Path, text: str) -> None:
    """A child that ends without a valid answer is `worker-failed`: transient, never mistaken for a judgement."""
    with pytest.raises(DeploymentError) as caught:
        script(tmp_path, text).test(request())
    assert caught.value.code == "worker-failed"


def test_noise_on_standard_output_does_not_spoil_an_answer(tmp_path: Path) -> None:
    """Runtimes print to standard output, from C too; the answer stands alone."""
    workers = script(
        tmp_path,
        "import os\n"
        "from edgesdk_agent.workers.child import serve\n"
        "from edgesdk_agent.workers.messages import JudgeNewcomer, Judgement\n"
        "def handle(request):\n"
        "    print('noise'); os.write(1, b'more noise')\n"
        "    return Judgement(passed=True)\n"
        "serve(JudgeNewcomer, handle)\n",
    )
    assert workers.test(request()).passed


def test_a_stopping_agent_decides_nothing(tmp_path: Path) -> None:
    """A worker that is killed because the agent stops is no failed test; afterwards none is started."""
    started = tmp_path / "started"
    os.mkfifo(started)
    workers = script(tmp_path, f"open({str(started)!r}, 'w').close()\nimport time; time.sleep(600)")
    caught: list[BaseException] = []

    def test() -> None:
        try:
            workers.test(request())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is compared
            caught.append(error)

    thread = threading.Thread(target=test)
    thread.start()
    started.read_text()
    workers.stop()
    thread.join(20)
    assert [type(error) for error in caught] == [AgentStopping]
    with pytest.raises(AgentStopping):
        workers.test(request())
