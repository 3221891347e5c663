"""The ways through the deployment table that are explored, and what must come of each."""

from __future__ import annotations

from dataclasses import dataclass

from crash.device import Device, Want, may_be_good

OLD, NOW = Want("0.9.0"), Want("1.0.0")
FRESH = Want("9.0.0")
FRESH_SERIAL = 90


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way.

    Attributes:
        before: What is deployed, durably, before anything is explored; nothing: the folder is empty.
        asks: What is asked then, in this order; the next comes when the one before is on trial (the last: is over).
        end: The state that it must end in.
        good: The releases (wants) that are good one after the other, the one of before first; None: none.
    """

    name: str
    before: tuple[Want, ...]
    asks: tuple[Want, ...]
    end: str
    good: tuple[Want | None, ...]

    def prepare(self, device: Device) -> None:
        """Make what is there before."""
        for number, want in enumerate(self.before):
            device.ask(want, number + 1)
            assert device.finish() == "committed"

    def walk(self, device: Device) -> str:
        """Go the way; return how it ended."""
        for number, want in enumerate(self.asks[:-1]):
            device.ask(want, 11 + number)
            device.run_until("trial")
        return self.go_on(device)

    def go_on(self, device: Device) -> str:
        """Read the last desired document (again), as after every start; return how it ended."""
        device.ask(self.asks[-1], 10 + len(self.asks))
        return device.finish()

    @property
    def final(self) -> Want | None:
        """What is good in the end."""
        return self.good[-1]

    @property
    def condemned(self) -> tuple[Want, ...]:
        """What is asked for but must never be good."""
        return tuple(want for want in self.asks if want.release and not may_be_good(want.release))


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("first install", (), (NOW,), "committed", (None, NOW)),
        Scenario("update", (OLD, NOW), (Want("2.0.0", anchored=True),), "committed", (NOW, Want("2.0.0"))),
        Scenario("roll back", (OLD, NOW), (Want("4.0.0"),), "rolled_back", (NOW,)),
        Scenario("first rolls back", (), (Want("4.0.0"),), "rolled_back", (None,)),
        Scenario("refuse", (OLD, NOW), (Want("5.0.0"),), "failed", (NOW,)),
        Scenario("reconfigure", (OLD, NOW), (Want("1.0.0", "2"),), "committed", (NOW, Want("1.0.0", "2"))),
        Scenario("supersede", (NOW,), (Want("2.0.0"), Want("3.0.0")), "committed", (NOW, Want("3.0.0"))),
        Scenario("remove", (OLD, NOW), (Want(None),), "idle", (NOW, None)),
    )
}
