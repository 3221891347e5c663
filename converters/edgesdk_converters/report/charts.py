"""The drawings of the report. Pure: plain data in, SVG out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgesdk_converters.evaluate.layers import short
from edgesdk_converters.report.svg import CHARACTER, WIDE, Drawing, Scale, cut
from edgesdk_converters.report.words import change

ROW, LINE = 40, 30
"""Height of a row with its name above what is drawn, in units, so that narrow screens show both."""
BAR, THIN = (20, 32), (18, 24)
"""Where a bar begins and ends within a `ROW`, and within a `LINE`."""
MOST_ROWS = 60
MOST_LETTERS = 52
_NOISY_DB, _BROKEN_DB = 20, 10


def changes(variants: Sequence[Mapping[str, Any]], limit: float | None, *, share: bool, greater: bool) -> str:
    """Draw each variant's change of the metric with its paired interval.

    Args:
        variants: Those of the report that were judged.
        limit: The largest allowed loss, in the metric's unit.
        share: Whether the metric is a share, drawn in points; else in its own unit.
        greater: Whether more of it is better: the side on which a loss lies.
    """
    rows = [(variant["variant"], variant["evaluation"]) for variant in variants if variant.get("evaluation")]
    values = [bound for _name, found in rows for bound in (*found["interval"], found["difference"])]
    edge = max(max(map(abs, values), default=0) * 1.1, 1.25 * (limit or 0), 1e-4 if share else 1e-12)
    drawing = Drawing(WIDE, 38 + ROW * len(rows), "Change of the metric against the float source, with intervals")
    x = Scale(-edge, edge, 20, WIDE - 20)
    bottom, times = 6 + ROW * len(rows), 100 if share else 1
    if limit:
        worst = (-edge, -limit) if greater else (limit, edge)
        drawing.rect(x(worst[0]), 2, x(worst[1]) - x(worst[0]), bottom - 2, "bad", "more than is allowed", ink=0.1)
        drawing.line(x(-limit if greater else limit), 2, x(-limit if greater else limit), bottom, "limit")
    _axis(drawing, x, bottom, lambda value: f"{times * value:+g}" if value else "0", "points" if share else "its unit")
    drawing.line(x(0), 2, x(0), bottom, "zero")
    for row, (name, found) in enumerate(rows):
        top = 2 + ROW * row
        low, high = found["interval"]
        tip = f"change: {change(found['difference'], found['interval'], share=share)}, 95 %"
        drawing.text(2, top + 14, name)
        drawing.rect(x(low), top + BAR[0] + 1, x(high) - x(low), 10, "soft", tip)
        drawing.dot(x(found["difference"]), top + BAR[0] + 6, "own", tip)
    return drawing.svg()


def classes(source: Sequence[Mapping[str, Any]], artifact: Sequence[Mapping[str, Any]]) -> str:
    """Draw how many samples of each class are found, float and artifact, with 95 % intervals of the artifact's."""
    drawing = Drawing(WIDE, 38 + ROW * len(artifact), "Share of each class that is found")
    x, bottom = Scale(0, 1, 12, WIDE - 20), 6 + ROW * len(artifact)
    _axis(drawing, x, bottom, lambda value: f"{value:g}", "found")
    for row, (before, now) in enumerate(zip(source, artifact, strict=True)):
        y = 2 + ROW * row + (BAR[0] + BAR[1]) / 2
        low, high = now["recall_interval"]
        tip = f"{now['label']}: {now['recall']:.3f} ({low:.3f} to {high:.3f}), float {before['recall']:.3f}"
        drawing.text(2, 16 + ROW * row, cut(now["label"], MOST_LETTERS))
        drawing.rect(x(low), y - 5, x(high) - x(low), 10, "soft", f"{tip}; {now['support']} samples")
        drawing.line(x(before["recall"]), y - 6, x(before["recall"]), y + 6, "float")
        drawing.dot(x(now["recall"]), y, "own", tip)
    return drawing.svg()


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Draw a confusion matrix: rows are the truth, columns the answers, ink is the share of the row."""
    cell = max(16.0, min(44.0, 420 / len(labels)))
    left = min(150, 22 + CHARACTER * max(len(label) for label in labels))
    side = cell * len(labels)
    drawing = Drawing(left + side + 10, side + 44, "Confusion matrix: rows are the truth, columns the answers")
    for i, (label, row) in enumerate(zip(labels, matrix, strict=True)):
        total = max(1, sum(row))
        drawing.text(left - 8, cell * (i + 0.5) + 4, cut(label, 20), anchor="end")
        for j, count in enumerate(row):
            share, style = count / total, "own" if i == j else "bad"
            tip = f"{label} answered {labels[j]}: {count} of {total}"
            drawing.rect(left + cell * j + 1, cell * i + 1, cell - 2, cell - 2, "cell", tip)
            if count:
                drawing.rect(left + cell * j + 1, cell * i + 1, cell - 2, cell - 2, style, tip, ink=max(0.08, share))
            if count and cell >= 24:  # noqa: PLR2004 - room for a number
                words = "onink" if share > 0.55 else "label"  # noqa: PLR2004 - half of the scale is dark
                drawing.text(left + cell * (j + 0.5), cell * (i + 0.5) + 4, str(count), anchor="middle", style=words)
    fits = CHARACTER * max(len(label) for label in labels) <= cell
    for j, label in enumerate(labels if fits else ()):
        drawing.text(left + cell * (j + 0.5), side + 16, label, anchor="middle")
    drawing.text(left + side / 2, side + (36 if fits else 18), "answered", anchor="middle", style="unit")
    return drawing.svg()


def layers(found: Mapping[str, Any]) -> str:
    """Draw the signal-to-noise ratio of each layer, in order; the one where the error starts is marked."""
    shown = found["layers"]
    if len(shown) > MOST_ROWS:
        worst = sorted(shown, key=lambda layer: layer["figures"]["snr_db"])[:MOST_ROWS]
        shown = [layer for layer in shown if layer in worst]
    drawing = Drawing(WIDE, 38 + LINE * len(shown), "Signal-to-noise ratio of each layer against the float model")
    x, bottom = Scale(0, 60, 2, WIDE - 20), 4 + LINE * len(shown)
    _axis(drawing, x, bottom, lambda value: f"{value:g}", "dB: more is nearer to float")
    for row, layer in enumerate(shown):
        top, ratio = 2 + LINE * row, layer["figures"]["snr_db"]
        style = "bad" if ratio < _BROKEN_DB else "warn" if ratio < _NOISY_DB else "own"
        tip = f"{layer['name']}: {ratio:.1f} dB, largest difference {layer['figures']['max_abs']:.4g}"
        drawing.text(2, top + 12, cut(f"{short(layer['name'])} · {layer['op']}", MOST_LETTERS), style="small")
        drawing.rect(2, top + THIN[0], x(ratio) - 2, THIN[1] - THIN[0], style, tip, ink=1 if style != "own" else 0.75)
        words = "equal" if ratio >= 100 else f"{ratio:.0f} dB"  # noqa: PLR2004 - nothing is left to tell apart
        drawing.text(WIDE - 4, top + 12, words, anchor="end", style="small")
        if layer["name"] == found["start"]:
            drawing.text(x(ratio) + 6, top + THIN[1] + 2, "◀ starts here", style="mark")
    return drawing.svg()


def ranges(found: Mapping[str, Sequence[float]]) -> str:
    """Draw the range of each tensor that calibration gave, on a scale that compresses large values."""
    rows = list(found.items())[:MOST_ROWS]
    edge = max((max(abs(low), abs(high)) for _name, (low, high) in rows), default=1.0) or 1.0
    drawing = Drawing(WIDE, 38 + LINE * len(rows), "Ranges of the tensors that calibration gave")
    x, bottom = Scale(-_squeezed(edge), _squeezed(edge), 20, WIDE - 20), 4 + LINE * len(rows)
    for value in (-100.0, -10.0, -1.0, 0.0, 1.0, 10.0, 100.0):
        if abs(value) <= edge:
            drawing.line(x(_squeezed(value)), 2, x(_squeezed(value)), bottom, "grid")
            drawing.text(x(_squeezed(value)), bottom + 16, f"{value:g}", anchor="middle", style="small")
    for row, (name, (low, high)) in enumerate(rows):
        top = 2 + LINE * row
        drawing.text(2, top + 12, cut(short(name), MOST_LETTERS), style="small")
        place, end = x(_squeezed(low)), x(_squeezed(high))
        tip = f"{name}: {low:.4g} to {high:.4g}"
        drawing.rect(place, top + THIN[0], max(2.0, end - place), THIN[1] - THIN[0], "own", tip, ink=0.75)
    return drawing.svg()


def sizes(rows: Sequence[tuple[str, int, str]]) -> str:
    """Draw sizes of files in kB: label, bytes, style."""
    drawing = Drawing(WIDE, 4 + ROW * len(rows), "Sizes of the artifacts and their sources")
    x = Scale(0, max(size for _name, size, _style in rows), 2, WIDE - 100)
    for row, (name, size, style) in enumerate(rows):
        top = 2 + ROW * row
        drawing.text(2, top + 14, name)
        drawing.rect(2, top + BAR[0], x(size) - 2, BAR[1] - BAR[0], style, f"{size} bytes", ink=0.8)
        drawing.text(x(size) + 6, top + BAR[1] - 1, f"{size / 1000:,.1f} kB", style="small")
    return drawing.svg()


def speeds(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Draw how many times as fast as float each artifact is, with its interval, on a scale of ratios."""
    bounds = [bound for _name, found in rows for bound in found["interval"]]
    edge = max(2.0, *(max(bound, 1 / bound) for bound in bounds)) * 1.15
    drawing = Drawing(WIDE, 38 + ROW * len(rows), "Speed against float on the machine that converted")
    x, bottom = Scale(-math.log(edge), math.log(edge), 20, WIDE - 20), 6 + ROW * len(rows)
    for value in (0.1, 0.2, 0.5, 1, 2, 5, 10):
        if 1 / edge <= value <= edge:
            drawing.line(x(math.log(value)), 2, x(math.log(value)), bottom, "zero" if value == 1 else "grid")
            drawing.text(x(math.log(value)), bottom + 16, f"{value:g} x", anchor="middle", style="small")
    for row, (name, found) in enumerate(rows):
        top = 2 + ROW * row
        low, high = found["interval"]
        style = "own" if low > 1 else "bad" if high < 1 else "float"
        tip = f"{found['speedup']:.2f} times as fast (95 %: {low:.2f} to {high:.2f})"
        drawing.text(2, top + 14, name)
        wide = max(2.0, x(math.log(high)) - x(math.log(low)))
        drawing.rect(x(math.log(low)), top + BAR[0] + 1, wide, 10, "soft", tip)
        drawing.dot(x(math.log(found["speedup"])), top + BAR[0] + 6, style, tip)
        times = f"{found['source_ms']:.3f} → {found['artifact_ms']:.3f} ms"
        drawing.text(WIDE - 4, top + 14, times, anchor="end", style="small")
    return drawing.svg()


def _squeezed(value: float) -> float:
    return math.copysign(math.log1p(abs(value) * 4), value)


def _axis(drawing: Drawing, x: Scale, bottom: float, words: Any, unit: str) -> None:
    for value in x.ticks():
        drawing.line(x(value), 2, x(value), bottom, "grid")
        drawing.text(x(value), bottom + 15, words(value), anchor="middle", style="small")
    drawing.text(x.end, bottom + 27, unit, anchor="end", style="unit")
