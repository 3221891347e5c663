"""The part of the page about one artifact: classes, confusion, errors, layers, ranges, placement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from edgesdk_converters.report import charts
from edgesdk_converters.report.table import table
from edgesdk_converters.report.words import artifact_name, described, is_share, rung_change

Plain = Mapping[str, Any]


def artifact_section(variants: Sequence[Plain]) -> str:
    """Return what is known of one artifact, which one or several targets share."""
    variant = variants[0]
    parts = [
        *map(_placement, variants),
        _figures(variant),
        _classes(variant),
        _parity(variant),
        _layers(variant),
        _saturation(variant),
        _ranges(variant),
    ]
    recipe, artifact_format = variant["recipe"], variant["format"]
    words = described(recipe, artifact_format, variant.get("conversion"))
    if tool := variant.get("made_by"):
        words = f"the float {artifact_format} file, quantized and built by {tool}"
    title = artifact_name(variant).replace(" ", " · ", 1)
    targets = ", ".join(dict.fromkeys(each["target"] for each in variants))
    lead = f"{words[0].upper()}{words[1:]}. For {targets}.{_other_word(variant)}"
    return f"<section><h2>{escape(title)}</h2><p>{escape(lead)}</p>{''.join(parts)}</section>"


def _other_word(variant: Plain) -> str:
    """Say what release.json and profiles call the precision, where the recipe's name does not tell."""
    word, name = variant.get("precision") or "", variant["recipe"]["name"]
    if name.startswith(word) or word.startswith(name):
        return ""
    return f" Its precision is {word} in release.json and in the targets' profiles."


def ladder_section(report: Plain) -> str:
    """Return what the repair ladder tried, where it was climbed."""
    share = is_share(report)
    parts = [_ladder(name, found, share=share) for name, found in (report.get("pareto") or {}).items()]
    if not parts:
        return ""
    lead = (
        "Recipes from the fastest to the gentlest, until one passed; bold: nothing else that was tried is better in "
        "every respect. Change: artifact minus float, on the samples beside it: a rung that is shown to be worse on a "
        "part of them ends there."
    )
    return f"<section><h2>Repair</h2><p>{lead}</p>{''.join(parts)}</section>"


def _ladder(name: str, found: Plain, *, share: bool) -> str:
    rows = (_rung(point, found["front"], share=share) for point in found["points"])
    return f"<h3>{escape(name)}</h3>{table(_LADDER, rows)}"


_LADDER = (
    ("recipe", False),
    ("judged", True),
    ("samples", True),
    ("change (95 %)", True),
    ("kB", True),
    ("x float's speed", True),
    ("gate", False),
)


def _rung(point: Plain, front: Sequence[str], *, share: bool) -> list[str]:
    name = escape(point["recipe"])
    shown = [("value", "{:.4f}", 1), ("samples", "{:,.0f}", 1), ("size", "{:,.1f}", 1000), ("speedup", "{:.2f}", 1)]
    judged, samples, size, speed = (
        "" if point.get(key) is None else words.format(point[key] / unit) for key, words, unit in shown
    )
    end = "<span class='tag pass'>passes</span>" if point["passed"] else escape(str(point.get("why") or ""))
    first = f"<b>{name}</b>" if point["recipe"] in front else name
    return [first, judged, samples, rung_change(point, share=share), size, speed, end]


def _details(variant: Plain) -> Plain:
    found: Plain = (variant.get("evaluation") or {}).get("details", {})
    return found


def _figures(variant: Plain) -> str:
    details = _details(variant)
    averages = {**(details.get("averages") or {}), **_of_numbers(details)}
    if not averages:
        return ""
    rows = (
        [escape(name), f"{each['artifact']:.4f}", f"{each['source']:.4f}", f"{each['artifact'] - each['source']:+.4f}"]
        for name, each in averages.items()
    )
    columns = (("figure", False), ("artifact", True), ("float", True), ("change, in its own unit", True))
    return f"<details><summary>All figures of the task</summary>{table(columns, rows)}</details>"


def _of_numbers(details: Plain) -> dict[str, dict[str, float]]:
    """Return what a regression has besides its metrics: bias, the 95th percentile of the error, R squared."""
    artifact, source = details.get("artifact") or {}, details.get("source") or {}
    words = {"bias": "bias", "p95": "95 % of errors below", "r2": "R squared"}
    both = {word: (artifact.get(key), source.get(key)) for key, word in words.items()}
    return {word: {"artifact": a, "source": b} for word, (a, b) in both.items() if a is not None and b is not None}


def _classes(variant: Plain) -> str:
    details = _details(variant)
    artifact, source = details.get("artifact") or {}, details.get("source") or {}
    if "classes" not in artifact:
        return ""
    labels = [each["label"] for each in artifact["classes"]]
    truth = "" if variant["evaluation"]["metric"] != "agreement" else " (the float source's answers)"
    if "confused" in artifact:
        title, beside = f"The classes that lost most, of {artifact['classes_in_all']}", _confused(artifact["confused"])
    else:
        title = "Class by class"
        beside = f"<h3>Confusion</h3><figure>{charts.confusion(artifact['confusion'], labels)}</figure>"
    return (
        f"<div class='two'><div><h3>{title}</h3><figure>{charts.classes(source['classes'], artifact['classes'])}"
        f"<figcaption>Share of each class{truth} that is found, with 95 % intervals; grey bars: float.</figcaption>"
        f"</figure></div><div>{beside}</div></div>"
    )


def _confused(pairs: list[list[Any]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(truth)}</td><td>{escape(answer)}</td><td class=n>{count}</td></tr>"
        for truth, answer, count in pairs
    )
    head = "<tr><th>class</th><th>taken for</th><th class=n>samples</th></tr>"
    return f"<h3>Most often confused</h3><div class='scroll'><table>{head}{rows}</table></div>"


def _parity(variant: Plain) -> str:
    parity = _details(variant).get("parity") or {}
    if not parity:
        return ""
    rows = (
        [
            escape(name),
            f"{each['max_abs']:.4g}",
            f"{each['rmse']:.4g}",
            f"{each['snr_db']:.1f}",
            f"{each['cosine']:.6f}",
        ]
        for name, each in parity.items()
        if each
    )
    agreement = _details(variant).get("agreement")
    same = f"<p>Both answer the same class on {agreement:.2%} of the samples.</p>" if agreement is not None else ""
    return f"<h3>Outputs against float</h3>{same}{table(_PARITY, rows)}"


_PARITY = (
    ("output", False),
    ("largest difference", True),
    ("RMSE", True),
    ("signal/noise, dB", True),
    ("cosine", True),
)


def _layers(variant: Plain) -> str:
    found = variant.get("layers")
    if not found:
        return ""
    if not found.get("compared"):
        reason = found.get("reason") or (found.get("failed") or {}).get("message", "")
        return f"<h3>Layer by layer</h3><p>Not compared: {escape(reason)}</p>"
    style = " broken" if found["start"] else ""
    words = found["sentence"][0].upper() + found["sentence"][1:]
    return (
        f"<h3>Layer by layer</h3><div class='callout{style}'>{escape(words)}.</div><figure>{charts.layers(found)}"
        f"<figcaption>Signal-to-noise ratio of each tensor against the float file's, on {found['samples']} samples."
        "</figcaption></figure>"
    )


def _saturation(variant: Plain) -> str:
    found = variant.get("saturation")
    if not found:
        return ""
    said = found["reason"] if not found["measured"] else f"on {found['samples']} samples: {found['reason']}"
    return f"<h3>On x86 without VNNI</h3><p>{escape(said)}.</p>"


def on_accelerator(variant: Plain) -> float | None:
    """Return the share of a variant's work on its accelerator, 0 … 1: of multiply-accumulates, else of operators.

    Where no compiler of ours placed it, it is what the lint foresees; None where there is no accelerator.
    """
    found, lint = variant.get("placement"), variant.get("lint")
    if found:
        whole = found["accelerator"] + found["cpu"]
        by_count = found["accelerator"] / whole if whole else 0.0
        return by_count if found.get("macs_share") is None else float(found["macs_share"])
    if not lint:
        return None
    off, whole = (lint["macs_off"], lint["macs"]) if lint["macs"] else (lint["ops_off"], lint["ops"])
    return 1 - off / whole if whole else 0.0


def _placement(variant: Plain) -> str:
    found = variant.get("placement")
    if not found:
        return ""
    share = found.get("macs_share")
    shown = "" if share is None else f", {share:.1%} of the multiplications"
    lead = f"{found['accelerator']} operators on the accelerator{shown}; {found['cpu']} on the CPU."
    rows = [[escape(str(each[key])) for key in ("name", "op", "why")] for each in found.get("fallback", ())]
    beside = table((("operator", False), ("kind", False), ("why", False)), rows) if rows else ""
    return f"<h3>Placement on {escape(variant['target'])}</h3><p>{escape(lead)}</p>{beside}"


def _ranges(variant: Plain) -> str:
    found = (variant.get("conversion") or {}).get("ranges")
    if not found:
        return ""
    return (
        f"<details><summary>Ranges that calibration gave ({len(found)} tensors)</summary><figure>{charts.ranges(found)}"
        "</figure></details>"
    )
