"""The plots of the report: matplotlib drawings as SVG text, in one sober style (it is imported when one is drawn)."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from edgesdk.demo.facts import Call, Moment, Rollout, Variant

INK = "#1f2933"
MUTED = "#7b8794"
RELEASES = {"1.0.0": "#2f6f9f", "2.0.0": "#2e8b57", "3.0.0": "#c2571a", "4.0.0": "#a8324a"}
STATES = {
    "offered": "#d9e2ec",
    "downloading": "#bcccdc",
    "verified": "#9fb3c8",
    "staged": "#829ab1",
    "testing": "#f0b429",
    "trial": "#2bb0ed",
    "committed": "#2e8b57",
    "rolled_back": "#a8324a",
    "failed": "#c2571a",
    "refused": "#c2571a",
}


def colour(release: str) -> str:
    """Return the colour that stands for a release in every plot."""
    return RELEASES.get(release, MUTED)


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Any, Any]]:
    import matplotlib as mpl  # noqa: PLC0415 - heavy

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - heavy

    style = {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": "#cbd2d9",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": MUTED,
        "ytick.color": INK,
        "svg.fonttype": "none",
        "svg.hashsalt": "edgesdk",
    }
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
        yield figure, axes
        plt.close(figure)


def _svg(figure: Any, title: str) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def timeline(found: Sequence[Moment], rollouts: Sequence[Rollout], end: float) -> str:
    """Draw each device's way through its states, over seconds since the first deployment."""
    devices = sorted({moment.device for moment in found})
    with _figure(9.2, 0.9 + 0.62 * len(devices)) as (figure, axes):
        for row, device in enumerate(devices):
            moments = sorted((moment for moment in found if moment.device == device), key=lambda moment: moment.at)
            for moment, following in zip(moments, [*moments[1:], None], strict=True):
                width = (following.at if following else end) - moment.at
                axes.barh(row, width, left=moment.at, height=0.5, color=STATES.get(moment.state, "#e4e7eb"))
        for rollout in rollouts:
            axes.axvline(rollout.started, color=INK, linewidth=0.8, linestyle=":")
            axes.text(rollout.started, len(devices) - 0.45, f" {rollout.release}", fontsize=8, color=INK)
        axes.set_yticks(range(len(devices)), devices)
        axes.set_ylim(-0.6, len(devices) - 0.1)
        axes.set_xlim(0, end)
        axes.set_xlabel("seconds since the first deployment")
        seen = {moment.state for moment in found}
        handles = [_patch(STATES[state]) for state in STATES if state in seen]
        axes.legend(
            handles, [state for state in STATES if state in seen], ncols=7, frameon=False, fontsize=8,
            loc="upper center", bbox_to_anchor=(0.5, -0.28),
        )  # fmt: skip
        return _svg(figure, "The states of every device over time")


def _patch(face: str) -> Any:
    from matplotlib.patches import Patch  # noqa: PLC0415 - heavy

    return Patch(facecolor=face)


def calls(found: Sequence[Call], device: str) -> str:
    """Draw every call of one app: latency over time, coloured by the release that answered; failed calls as crosses."""
    mine = [call for call in found if call.device == device]
    with _figure(9.2, 2.4) as (figure, axes):
        for release in sorted({call.release for call in mine if not call.failed}):
            points = [call for call in mine if call.release == release and not call.failed and call.served == release]
            axes.scatter([c.at for c in points], [c.ms for c in points], s=3, color=colour(release), label=release,
                         linewidths=0, alpha=0.6)  # fmt: skip
        saved = [call for call in mine if not call.failed and call.served not in {call.release, ""}]
        axes.scatter([c.at for c in saved], [c.ms for c in saved], s=26, marker="o", facecolors="none",
                     edgecolors=colour("4.0.0"), linewidths=0.9, label="answered by the good generation")  # fmt: skip
        failed = [call for call in mine if call.failed]
        axes.scatter([c.at for c in failed], [c.ms for c in failed], s=30, marker="x", color="black",
                     label=f"failed calls: {len(failed)}")  # fmt: skip
        axes.set_yscale("log")
        axes.set_ylabel("ms per call")
        axes.set_xlabel("seconds since the first deployment")
        axes.legend(
            frameon=False, fontsize=8, ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.22), markerscale=1.6
        )
        return _svg(figure, f"Latency of every call of the app on {device}")


def accuracy(variants: Sequence[Variant]) -> str:
    """Draw each variant's accuracy difference to its float source with its paired interval, in points."""
    with _figure(9.2, 0.9 + 0.32 * len(variants)) as (figure, axes):
        for row, variant in enumerate(reversed(variants)):
            low, high = (100 * bound for bound in variant.interval)
            axes.plot([low, high], [row, row], color=colour(variant.release), linewidth=5, alpha=0.35,
                      solid_capstyle="butt")  # fmt: skip
            axes.plot(100 * variant.difference, row, "o", color=colour(variant.release), markersize=5)
        names = [f"{v.release}  {v.variant}" for v in reversed(variants)]
        axes.set_yticks(range(len(variants)), names)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_xlabel("accuracy of the artifact minus that of its float source, points, with the paired interval")
        return _svg(figure, "Accuracy differences with paired intervals")


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str], title: str) -> str:
    """Draw a confusion matrix: rows are the truth, columns the answers, each row as shares of its examples."""
    shares = [[value / max(1, sum(row)) for value in row] for row in matrix]
    with _figure(4.4, 3.6) as (figure, axes):
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for y, row in enumerate(matrix):
            for x, value in enumerate(row):
                if value:
                    dark = shares[y][x] > 0.5  # noqa: PLR2004 - half of the colour scale
                    axes.text(x, y, str(value), ha="center", va="center", fontsize=7, color="white" if dark else INK)
        axes.set_xticks(range(len(labels)), labels)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_xlabel("answer")
        axes.set_ylabel("truth")
        axes.set_title(title, fontsize=9, loc="left")
        return _svg(figure, title)


def per_class(variant: Variant, classes: Sequence[dict[str, Any]]) -> str:
    """Draw precision and recall of every class of one variant."""
    with _figure(4.4, 3.6) as (figure, axes):
        rows = range(len(classes))
        recall, precision = ([each[key] for each in classes] for key in ("recall", "precision"))
        axes.barh([r - 0.2 for r in rows], recall, height=0.36, color=colour(variant.release), label="recall")
        axes.barh([r + 0.2 for r in rows], precision, height=0.36, color="#bcccdc", label="precision")
        axes.set_yticks(list(rows), [each["label"] for each in classes])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, -0.28), ncols=2)
        axes.set_title(f"{variant.release} {variant.variant}", fontsize=9, loc="left")
        return _svg(figure, f"Precision and recall of {variant.variant}")
