"""What `edge-agent why` says, state by state and reason by reason."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from edgesdk_agent.ota.status import ModelStatus
from edgesdk_agent.store.records import Quarantined
from edgesdk_agent.why import Facts, explain, without_models

from edgesdk.errors import CODES
from edgesdk.generation import TrialPolicy
from edgesdk.protocol.messages import Reason, State

GOOD, NEW = "a" * 64, "b" * 64


def status(state: State, **changes: Any) -> ModelStatus:
    """A device that serves 1.0.0 and was asked for 1.1.0, in a state."""
    base = ModelStatus(
        model="digits",
        state=state,
        deployment="r-1",
        serial=17,
        release="1.1.0",
        generation=NEW,
        good=GOOD,
        good_release="1.0.0",
        previous=None,
        trial=None,
        serving="good",
        policy=TrialPolicy(),
    )
    return msgspec.structs.replace(base, **changes)


def facts(**changes: Any) -> Facts:
    """A healthy device."""
    base = Facts(model="digits", serial=17, slot="good", serving=GOOD, disk_free=1 << 30)
    return msgspec.structs.replace(base, **changes)


def reason(code: str, *, permanent: bool = True, hint: str = "") -> Reason:
    return Reason(code=code, message=f"what is wrong with {code}", permanent=permanent, hint=hint)


EVIDENCE = {"calls": 40, "bad": 1, "slow": 2, "served_seconds": 12.5, "apps": ["camera"]}
TABLE: list[tuple[str, Facts, list[str], str]] = [
    (
        "never asked",
        facts(slot="none", serving=None),
        ["serves no release", "No desired document"],
        "edge fleet deploy digits",
    ),
    ("idle, removed", facts(status=status("idle", release=None)), ["wants no release of it here"], ""),
    ("offered", facts(status=status("offered")), ["asks for release 1.1.0", "choosing the variant"], ""),
    ("downloading", facts(status=status("downloading")), ["1.0.0 as good", "being downloaded"], ""),
    ("verified", facts(status=status("verified")), ["being made a generation"], ""),
    ("staged", facts(status=status("staged")), ["tests are being prepared"], ""),
    ("testing", facts(status=status("testing")), ["no app sees it before it passes"], ""),
    (
        "trial without an app",
        facts(slot="trial", serving=NEW, status=status("trial", serving="trial", trial=NEW)),
        ["digits 1.1.0 on trial", "0 calls so far", "no app yet", "committed after 200 calls and 60 s"],
        "Start an app",
    ),
    (
        "trial with evidence",
        facts(slot="trial", serving=NEW, status=status("trial", trial=NEW, trial_evidence=EVIDENCE)),
        ["40 calls so far, 1 bad and 2 slow, in 12.5 s of service by camera", "deadline is 3600 s"],
        "",
    ),
    (
        "trial with an app of another contract",
        facts(status=status("trial", trial=NEW, trial_evidence=EVIDENCE | {"misfits": {"old": "it asks for 1.x"}})),
        ["The app 'old' is not served by it: it asks for 1.x [contract-major]."],
        "",
    ),
    (
        "trial held",
        facts(status=status("trial", trial_evidence=EVIDENCE, reason=reason("trial-evidence"))),
        ["held beyond its deadline: what is wrong with trial-evidence [trial-evidence]"],
        "",
    ),
    ("committed", facts(status=status("committed", good_release="1.1.0")), ["was committed"], ""),
    (
        "committed on thin evidence",
        facts(status=status("committed", reason=reason("trial-evidence"))),
        ["The evidence was thin"],
        "",
    ),
    (
        "refused",
        facts(status=status("refused", reason=reason("no-fitting-variant", hint="Convert for this device."))),
        ["nothing was downloaded: what is wrong with no-fitting-variant [no-fitting-variant]"],
        "Convert for this device.",
    ),
    (
        "failed for now",
        facts(status=status("failed", attempts=3, retry_in_s=41.7, reason=reason("http-failed", permanent=False))),
        ["failed for now", "tried 3 times", "again in about 42 s"],
        CODES["http-failed"].cure,
    ),
    (
        "waits for a window",
        facts(
            status=status("failed", attempts=1, retry_in_s=600, reason=reason("maintenance-window", permanent=False))
        ),
        ["It waits: what is wrong with maintenance-window", "tried again in about 600 s"],
        CODES["maintenance-window"].cure,
    ),
    (
        "failed for good",
        facts(status=status("failed", reason=reason("golden-mismatch"))),
        ["trying again would not help", "[golden-mismatch]"],
        CODES["golden-mismatch"].cure,
    ),
    (
        "failed without a reason",
        facts(status=status("failed")),
        ["no reason was kept"],
        "",
    ),
    (
        "rolled back and quarantined",
        facts(
            status=status("rolled_back", reason=reason("trial-evidence")),
            quarantined=Quarantined(
                generation=NEW, model="digits", release="1.1.0", reason=reason("trial-evidence"), at="2026-11-23"
            ),
        ),
        ["rolled back from its trial", "quarantined here since 2026-11-23", "unless forced"],
        CODES["trial-evidence"].cure,
    ),
    ("paused", facts(status=status("downloading", paused=True)), ["has paused deployments"], "Resume deployments"),
    ("agent stopped", facts(running=False, status=status("downloading")), ["does not run"], "Start the agent"),
    ("offline", facts(online=False, status=status("committed")), ["broker cannot be reached"], "offline"),
    (
        "a document that is not in force",
        facts(problem="the repository expired [tuf-expired]", status=status("committed")),
        ["newest desired document is not in force: the repository expired [tuf-expired]."],
        CODES["tuf-expired"].cure,
    ),
    (
        "revoked",
        facts(online=False, standing="revoked", status=status("committed")),
        ["The hub has revoked this device: nothing that it says counts"],
        "edge-agent enroll TOKEN --force",
    ),
    (
        "of another enrolment",
        facts(running=False, online=False, standing="unknown", status=status("committed")),
        ["does not know this device's enrolment"],
        "edge-agent enroll TOKEN --force",
    ),
    ("clock", facts(clock="unproven", status=status("committed")), ["clock is not proven"], ""),
    (
        "a clock that TLS does not believe",
        facts(
            clock="unproven",
            online=False,
            problem="the repository: certificate verify failed: certificate is not yet valid [http-failed]",
            status=status("failed", reason=reason("http-failed", permanent=False)),
        ),
        ["certificate is not yet valid"],
        "Set this device's clock",
    ),
    (
        "named no more",
        facts(serial=18, status=status("trial", trial_evidence=EVIDENCE)),
        ["asked for release 1.1.0", "newest document (18) does not name digits"],
        "",
    ),
    (
        "imported",
        facts(serial=18, status=status("testing", deployment="import")),
        ["A file that was imported here brought release 1.1.0"],
        "",
    ),
    ("disk", facts(disk_free=5 << 20, status=status("committed")), ["Only 5 MiB of disk"], ""),
]


@pytest.mark.parametrize(("case", "known", "says", "next_step"), TABLE, ids=[row[0] for row in TABLE])
def test_each_situation_is_explained(case: str, known: Facts, says: list[str], next_step: str) -> None:
    """Each state and reason has its words, and the one thing to do."""
    found = explain(known)
    for words in says:
        assert words in found.text, case
    assert next_step in found.next if next_step else found.next == "", case


def test_every_state_is_in_the_table() -> None:
    """No state of the deployment table is left unexplained."""
    assert {known.status.state for _, known, _, _ in TABLE if known.status} == set(get_args(State))


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_reason_leads_to_a_cure(code: str) -> None:
    """Whatever a deployment failed of, what to do next is said, and the code is there to look up."""
    found = explain(facts(status=status("failed", reason=reason(code))))
    assert found.because == code
    assert f"[{code}]" in found.text
    assert found.next == CODES[code].cure


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"running": False, "online": False, "standing": ""}, "Start the agent"),
        ({"running": False, "online": False, "standing": "revoked"}, "edge-agent enroll TOKEN --force"),
        ({"running": True, "online": False, "standing": "enrolled"}, "network"),
        ({"running": True, "online": True, "standing": ""}, "edge fleet deploy"),
        ({"running": True, "online": True, "standing": "", "problem": "no room [disk-full]"}, "no room [disk-full]"),
        ({"running": True, "online": True, "standing": "", "problem": "no room [disk-full]"}, "Free space"),
    ],
)
def test_the_next_step_where_no_model_is_known(known: dict[str, Any], expected: str) -> None:
    """A device must be enrolled, running, able to take in what it is asked, and connected, in this order."""
    assert expected in without_models(**{"problem": "", **known})


def test_only_a_committed_model_is_updated() -> None:
    """`updated` is true in one state only."""
    assert [state for state in get_args(State) if explain(facts(status=status(state))).updated] == ["committed"]
