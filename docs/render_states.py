"""Render `docs/deployment-states.md` from the deployment table: `python docs/render_states.py`."""

from __future__ import annotations

from pathlib import Path

from edgesdk_agent.ota.table import DOES, MEANING, STATES, TABLE, WORK

TARGET = Path(__file__).with_name("deployment-states.md")

HEAD = """# Deployment states

*Rendered from `agent/edgesdk_agent/ota/table.py` by `docs/render_states.py`; do not edit.*

One model on one device is always in one of these states; every change of state is a signed statement. A state is
journalled before its work begins, and a move that changes what apps are served is journalled before it is made. So
after a power cut the agent knows which work may have been begun, and does it again: every action may be done twice.
"""


def render() -> str:
    """Return the whole page."""
    states = _table(("state", "work done in it"), [(f"`{state}`", WORK[state] or "—") for state in STATES])
    rows = _table(
        ("state", "when", "if", "then", "next"),
        [(f"`{r.state}`", r.event, r.guard, r.action.replace("nothing", "—"), f"`{r.next}`") for r in TABLE],
    )
    events = _table(("event", "meaning"), list(MEANING.items()))
    actions = _table(("action", "what it does"), [(name, does) for name, does in DOES.items() if does])
    parts = [HEAD, "## States", states, "## Transitions", "The first row whose condition holds counts.", rows]
    return "\n\n".join([part.strip() for part in [*parts, "## Events", events, "## Actions", actions]]) + "\n"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    print(f"wrote {TARGET}")
