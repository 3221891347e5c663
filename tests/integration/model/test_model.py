"""`edgesdk.Model` on real artifacts, real files and real processes."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesdk import Model
from edgesdk.errors import ContractError, DeploymentError, EdgeError, ReleaseError
from edgesdk.generation import Generation, TrialPolicy, evidence_socket, generation_dir, slots_file
from edgesdk.protocol.evidence import decode_evidence
from edgesdk.testing import serve_bundle, set_slots

Serve = Callable[..., Generation]
Until = Callable[[Callable[[], Any]], None]

GOOD = np.array([[1, 2, 3, 4]], np.float32)
BAD = -GOOD  # on which a flawed model shows its flaw


def held(store: Path, generation: str) -> bool:
    """Whether an app holds the generation, so that the agent would not remove it."""
    handle = os.open(generation_dir(store, generation), os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def test_an_app_is_served_what_the_slots_name(store: Path, serve: Serve) -> None:
    """Every way of calling answers from the good generation and says so; nothing of this needs an agent."""
    generation = serve("1.0.0", answer=1)
    with Model("tiny", contract=1, store=store) as model:
        answer = model.classify(GOOD)
        assert (answer.label, answer.release, answer.slot) == ("one", "1.0.0", "good")
        assert answer.confidence == pytest.approx(0.982, abs=1e-3)
        assert answer.scores == pytest.approx({"zero": 0.018, "one": 0.982}, abs=1e-3)
        assert answer.generation == model.generation == generation.generation
        np.testing.assert_array_equal(model(GOOD), model.predict({"x": GOOD})["y"])
        assert (model.release, model.slot, model.contract.version) == ("1.0.0", "good", "1.0")


def test_nothing_served_is_a_clear_error(store: Path) -> None:
    """An app on a device that never got the model is told what to do."""
    with pytest.raises(ContractError, match="no generation of 'tiny' is served") as caught:
        Model("tiny", store=store)
    assert caught.value.code == "model-none-served"


def test_the_agents_folder_given_as_store_is_recognised(tmp_path: Path) -> None:
    """The store lies in the agent's folder; an app that was given the outer one is told the inner one."""
    (tmp_path / "store" / "models").mkdir(parents=True)
    with pytest.raises(ContractError) as caught:
        Model("tiny", store=tmp_path)
    assert str(tmp_path / "store") in (caught.value.hint or "")


def test_wait_s_waits_for_the_first_deployment(store: Path, serve: Serve) -> None:
    """An app may start before the device has the model."""
    started = threading.Timer(0.3, lambda: serve("1.0.0"))
    started.start()
    with Model("tiny", store=store, wait_s=60) as model:
        assert model.release == "1.0.0"
    started.join()


def test_swaps_under_load_fail_no_call(store: Path, serve: Serve, until: Until) -> None:
    """Threads that never pause see release after release and not one error; what was left is freed and let go."""
    generations = [serve(f"1.{minor}.0", answer=minor % 2) for minor in range(4)]
    failures: list[BaseException] = []
    wrong: list[Any] = []
    seen: list[set[str]] = [set() for _ in range(4)]
    done = threading.Event()

    def work(model: Model, mine: set[str]) -> None:
        try:
            while not done.is_set():
                answer = model.classify(GOOD)
                mine.add(answer.release)
                if answer.label != ("zero", "one")[int(answer.release.split(".")[1]) % 2]:
                    wrong.append(answer)
        except BaseException as error:
            failures.append(error)
            raise

    with Model("tiny", contract=1, store=store) as model:
        threads = [threading.Thread(target=work, args=(model, mine)) for mine in seen]
        for thread in threads:
            thread.start()
        for turn in range(8):
            chosen = generations[turn % 4]
            set_slots(store, "tiny", chosen.generation, "good")
            until(
                lambda chosen=chosen: all(chosen.release in mine for mine in seen) and model.release == chosen.release
            )
        until(lambda: [held(store, each.generation) for each in generations] == [False, False, False, True])
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert wrong == []
    assert not held(store, generations[3].generation)


@pytest.mark.parametrize(("flaw", "counter"), [("nan", "nan"), ("raise", "errors")])
def test_good_answers_for_a_trial_that_cannot(store: Path, serve: Serve, ear: Any, flaw: str, counter: str) -> None:
    """NaN and exceptions of a trial never reach the app: good answers, and the agent hears of every such call."""
    serve("1.0.0", answer=0)
    trial = serve("2.0.0", answer=1, flaw=flaw, slot="trial")
    with Model("tiny", store=store, app="tester") as model:
        answers = [model.classify(x) for x in (GOOD, BAD, GOOD, BAD, BAD)]
    assert [answer.label for answer in answers] == ["one", "zero", "one", "zero", "zero"]
    assert [answer.slot for answer in answers] == ["trial", "good", "trial", "good", "good"]
    last = ear.until(lambda said: said.kind == "closed" and said.generation == trial.generation)
    assert (last.counters.calls, last.counters.answered_by_good, last.counters.classes) == (5, 3, {"one": 2})
    assert {"nan": last.counters.nan, "errors": last.counters.errors.get("inference-failed")}[counter] == 3
    assert last.app == "tester"
    assert last.pid == os.getpid()
    assert last.backend.startswith("onnxruntime ")


def test_nan_of_a_good_generation_is_an_error(store: Path, serve: Serve) -> None:
    """Where nobody else can answer, the app gets an error that says what happened, not NaN."""
    serve("1.0.0", flaw="nan")
    with Model("tiny", store=store) as model:
        with pytest.raises(ReleaseError, match=r"'y' of tiny 1\.0\.0 holds NaN") as caught:
            model.predict({"x": BAD})
        assert caught.value.code == "output-nan"
        assert model.classify(GOOD).label == "zero"


def test_inputs_that_only_the_trial_refuses(store: Path, serve: Serve, ear: Any) -> None:
    """A trial with a narrower contract counts an error; what nobody accepts is the caller's mistake and a reject."""
    serve("1.0.0")
    trial = serve("1.1.0", limits=(-1.0, 1.0), slot="trial")
    with Model("tiny", store=store) as model:
        assert model.classify(GOOD).slot == "good"
        with pytest.raises(ContractError, match=r"expected shape \[1, 4\], got \[4\]"):
            model.classify(GOOD[0])
    last = ear.until(lambda said: said.kind == "closed" and said.generation == trial.generation)
    assert (last.counters.calls, last.counters.rejects, last.counters.answered_by_good) == (1, 1, 1)
    assert last.counters.errors == {"input-range": 1}


def test_a_trial_that_does_not_load_leaves_good_serving(store: Path, serve: Serve, ear: Any) -> None:
    """The agent hears why, once; the app does not notice."""
    serve("1.0.0")
    with Model("tiny", store=store) as model:
        trial = serve("2.0.0", data=b"no model", slot="trial")
        said = ear.until(lambda said: said.kind == "load-failed")
        assert (said.generation, said.reason["code"]) == (trial.generation, "artifact-unloadable")
        assert (model.classify(GOOD).release, model.slot) == ("1.0.0", "good")
    assert [each.kind for each in ear.heard if each.generation == trial.generation] == ["loading", "load-failed"]


def test_another_contract_major_is_not_followed(store: Path, serve: Serve, ear: Any) -> None:
    """An app written for contract 1 keeps what it has; one that starts now is told."""
    serve("1.0.0")
    with Model("tiny", contract=1, store=store) as model:
        serve("2.0.0", version="2.0")
        assert ear.until(lambda said: said.kind == "load-failed").reason["code"] == "contract-major"
        assert model.classify(GOOD).release == "1.0.0"
        with pytest.raises(ContractError, match=r"asks for contract 1\.x, tiny 2\.0\.0 has 2\.0") as caught:
            Model("tiny", contract=1, store=store)
        assert caught.value.code == "contract-major"


def test_commit_and_rollback_are_followed(store: Path, serve: Serve, until: Until) -> None:
    """Trial, commit, another trial, rollback, removal: the app is served what the slots say, each time."""
    serve("1.0.0")
    with Model("tiny", store=store) as model:
        trial = serve("2.0.0", slot="trial")
        until(lambda: (model.release, model.slot) == ("2.0.0", "trial"))
        set_slots(store, "tiny", trial.generation, "good")
        until(lambda: (model.release, model.slot) == ("2.0.0", "good"))
        serve("3.0.0", slot="trial")
        until(lambda: model.release == "3.0.0")
        set_slots(store, "tiny", trial.generation, "good")
        until(lambda: (model.release, model.slot) == ("2.0.0", "good"))
        set_slots(store, "tiny", None, "none")
        until(lambda: raises_none_served(model))


def raises_none_served(model: Model) -> bool:
    try:
        model.predict({"x": GOOD})
    except EdgeError as error:
        return error.code == "model-none-served"
    return False


def test_what_is_wrong_in_the_store_does_not_stop_an_app(store: Path, serve: Serve, until: Until) -> None:
    """Damaged slots and a missing generation keep the old one serving; a new app is told which it was."""
    first = serve("1.0.0")
    path = slots_file(store, "tiny")
    with Model("tiny", store=store) as model:
        path.write_bytes(b"{")
        with pytest.raises(DeploymentError) as damaged:
            Model("tiny", store=store)
        path.unlink()
        set_slots(store, "tiny", "0" * 64, "good")
        with pytest.raises(DeploymentError) as missing:
            Model("tiny", store=store)
        assert model.classify(GOOD).generation == first.generation
        second = serve("1.1.0")
        until(lambda: model.generation == second.generation)
    assert (damaged.value.code, missing.value.code) == ("store-corrupt", "generation-missing")


def test_counters_are_cumulative_and_complete(store: Path, serve: Serve, ear: Any) -> None:
    """Datagrams of one session grow; the last one holds every call, its latency, slowness and answer."""
    generation = serve("1.0.0", policy=TrialPolicy(slow_ms=1e-6))
    with Model("tiny", store=store) as model:
        for _ in range(20):
            model.classify(GOOD)
        ear.until(lambda said: said.kind == "counters" and said.counters.calls >= 1)
        for _ in range(30):
            model(GOOD)
    last = ear.until(lambda said: said.kind == "closed")
    assert (last.counters.calls, last.counters.slow, last.counters.classes) == (50, 50, {"zero": 50})
    assert sorted(last.counters.latency_ms) == ["infer", "post", "pre", "total"]
    assert last.counters.confidence is not None
    mine = [said for said in ear.heard if said.generation == generation.generation]
    assert [said.kind for said in mine][:2] == ["loading", "loaded"]
    assert len({said.session for said in mine}) == 1
    assert [said.seq for said in mine] == sorted({said.seq for said in mine})


def test_a_socket_that_nobody_reads_never_blocks(store: Path, serve: Serve) -> None:
    """A full queue loses evidence, not time: calls, swaps and the end go on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(evidence_socket(store)))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
            filler.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    filler.sendto(b"x" * 1000, str(evidence_socket(store)))
        serve("1.0.0")
        with Model("tiny", store=store) as model:
            assert model.classify(GOOD).label == "zero"


APP = """
import os, sys, signal
import numpy as np
from edgesdk import Model
model = Model("tiny", store=sys.argv[1])
print(model.classify(np.ones((1, 4), np.float32)).label, flush=True)
if sys.argv[2] == "fork":
    child = os.fork()
    if child == 0:
        model.classify(np.ones((1, 4), np.float32))
        model.close()
        os._exit(0)
    os.waitpid(child, 0)
if sys.argv[2] == "stay":
    signal.pause()
"""


def app(store: Path, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", APP, str(store), what], stdout=subprocess.PIPE, text=True)


def test_an_app_that_just_ends_has_sent_its_counters(store: Path, serve: Serve, ear: Any) -> None:
    """Nobody calls close(); the end of the interpreter does."""
    serve("1.0.0")
    with app(store, "end") as process:
        last = ear.until(lambda said: said.kind == "closed")
    assert (process.returncode, last.counters.calls, last.pid) == (0, 1, process.pid)


def test_kill_9_of_an_app_lets_its_generation_go(store: Path, serve: Serve, ear: Any) -> None:
    """A killed app leaves `loading` and `loaded` paired, no `closed`, and no lock behind."""
    generation = serve("1.0.0")
    with app(store, "stay") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "zero\n"
        ear.until(lambda said: said.kind == "loaded")
        assert held(store, generation.generation)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not held(store, generation.generation)
    assert {"closed", "load-failed"}.isdisjoint(said.kind for said in ear.heard)


CRASHING = APP.replace(
    "model = Model",
    "import edgesdk.app.follower as f; f.load_generation = lambda *a, **k: os.kill(os.getpid(), 9); Model",
)


def test_a_generation_that_crashes_the_app_leaves_loading_unpaired(store: Path, serve: Serve, ear: Any) -> None:
    """What was said before loading is heard although the process died: so the agent knows who killed it."""
    generation = serve("1.0.0")
    done = subprocess.run([sys.executable, "-c", CRASHING, str(store), "end"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert ear.until(lambda said: said.kind == "loading").generation == generation.generation
    serve("1.1.0")
    with Model("tiny", store=store):
        pass
    ear.until(lambda said: said.kind == "closed")
    assert [said.kind for said in ear.heard if said.generation == generation.generation] == ["loading"]


def test_a_forked_child_is_a_session_of_its_own(store: Path, serve: Serve, ear: Any) -> None:
    """After a fork the child follows and counts for itself, under its own process id."""
    serve("1.0.0")
    with app(store, "fork") as process:
        ends = []
        for _ in range(2):
            ends.append(ear.until(lambda said: said.kind == "closed" and said not in ends))
    assert process.returncode == 0
    assert len({said.session for said in ends}) == len({said.pid for said in ends}) == 2
    assert [said.counters.calls for said in ends] == [1, 1]


def test_evidence_reaches_a_store_with_a_long_path(tmp_path: Path, make_tiny: Callable[..., Path]) -> None:
    """A socket's address holds 107 bytes; a store's path may be longer."""
    store = tmp_path / ("long" * 40)
    store.mkdir()
    folder = os.open(store, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as agent:
        agent.bind(f"/proc/self/fd/{folder}/evidence.sock")
        os.close(folder)
        agent.settimeout(30)
        serve_bundle(make_tiny("1.0.0"), store)
        with Model("tiny", store=store):
            assert decode_evidence(agent.recv(1 << 17)).kind == "loading"
