"""A child process that walks one scenario and kills itself with SIGKILL where it is told to.

Usage: ``python agent_ota_child.py ROOT SCENARIO [LABEL]``; prints how it ended as JSON. The repository lives in the
child too: its contents are made anew from the same words, so URLs differ (as after a move) but bytes do not.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from agent_ota_world import MODEL, RangeServer, World

SCENARIOS = {
    "good": (("1.0.0", "good"), ("2.0.0", "good")),
    "nan": (("1.0.0", "good"), ("2.0.0", "nan")),
    "worse": (("1.0.0", "good"), ("2.0.0", "worse")),
    "first-nan": (("1.0.0", "nan"),),
    "superseded": (("1.0.0", "good"), ("2.0.0", "good"), ("3.0.0", "good")),
    "removed": (("1.0.0", "good"), (None, "")),
}


def main() -> None:
    root, scenario, label = Path(sys.argv[1]), sys.argv[2], [*sys.argv[3:], None][0]
    armed = {"now": False}

    def on_enter(entered: str) -> None:
        if armed["now"] and entered == label:
            os.kill(os.getpid(), signal.SIGKILL)

    done = root / "steps-done"
    first = int(done.read_text()) if done.exists() else 0
    world = World(root / "agent", RangeServer(), on_enter=on_enter)
    releases = SCENARIOS[scenario]
    for number, (release, content) in enumerate(releases):
        offer = world.publish(release, content) if release else None
        if number < first:
            world.serial += 1
            continue
        armed["now"] = number == len(releases) - 1  # the plug is pulled in the last deployment
        world.ask(offer, deployment=f"d{number}")
        if scenario == "superseded" and number == 1:
            world.run("trial")
        else:
            world.finish()
        if not armed["now"]:
            root.mkdir(exist_ok=True)
            done.write_text(str(number + 1))
    world.check_whole()
    world.check_truth()
    slots = world.slots()
    good = world.updater.snapshot()[MODEL].good_release
    end = {"state": world.current(), "good": good, "serve": slots.serve, "trial": slots.trial}
    sys.stdout.write(json.dumps(end))


if __name__ == "__main__":
    main()
