"""What a compression came to, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgesdk_converters.compress.run import Compressed

SHOWN = 6


def lines(made: Compressed) -> Iterator[str]:
    """Yield the figures before and after, what was kept and why, and where the files are."""
    report = made.report
    before, after = report["before"]["figures"], report["after"]["figures"]
    for name in ("parameters", "nonzero", "macs", "bytes", "compressed_bytes"):
        if before[name]:
            share = after[name] / before[name]
            yield f"{name.replace('_', ' '):17} {before[name]:>12,} -> {after[name]:>12,}  ({share:.1%})"
    evaluation, bare = report["evaluation"], report.get("without_finetuning")
    if report["command"] == "prune" and bare and report["training"]:
        yield f"without fine-tuning {_figures(bare)}"
    if evaluation:
        yield _figures(evaluation)
    if report["command"] == "prune" and report["words"]["amount"] > 0 and not report["training"]:
        yield "not fine-tuned: with --data and --validation most of a loss usually comes back"
    if report["words"].get("by") == "weights" and report["words"]["amount"] > 0:
        yield "zeroed weights make a download smaller, not the model faster: --by channels does"
    if report["command"] == "prune" and report["words"]["amount"] == 0 and not report.get("removed"):
        yield "nothing was removed: every channel counts; the file written is the same model"
    if report.get("removed"):
        removed = ", ".join(f"{name} {count}" for name, count in report["removed"].items())
        yield f"channels removed: {removed}"
    yield from _kept(report.get("kept") or {})
    if report["training"]:
        trained = report["training"]
        best = f"the best was epoch {trained['best_epoch']}"
        yield f"trained {trained['epochs']} epochs in {report['seconds']:.1f} s; {best}"
    yield f"wrote {made.path} and {made.report_path.name}{' (at hand from before)' if made.cached else ''}"


def _figures(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    points = 100 if found["metric"] == "accuracy" else 1
    unit = " points" if points > 1 else ""
    on = f"{found['samples']} {found['data']} samples"
    note = "; the best epoch was chosen on them: a little too good" if found["chosen_on_it"] else ""
    change = f"{points * found['difference']:+.2f}{unit}, 95 % {points * low:+.2f} to {points * high:+.2f}"
    return f"{found['metric']} {found['before']:.4f} -> {found['after']:.4f} ({change}; {on}{note})"


def _kept(kept: dict[str, str]) -> Iterator[str]:
    for name, why in list(kept.items())[:SHOWN]:
        yield f"kept all channels of {name}: {why}"
    if len(kept) > SHOWN:
        yield f"… and of {len(kept) - SHOWN} more layers; the report names them"
