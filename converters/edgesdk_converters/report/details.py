"""The part of the page about one artifact: classes, confusion, errors, layers, ranges, placement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from edgesdk_converters.report import charts

Plain = Mapping[str, Any]


def artifact_section(report: Plain, variant: Plain) -> str:
    """Return what is known of one artifact; targets share it."""
    del report
    parts = [
        _figures(variant),
        _classes(variant),
        _parity(variant),
        _layers(variant),
        _saturation(variant),
        _placement(variant),
        _ranges(variant),
    ]
    recipe = variant["recipe"]
    title = f"{variant['format']} · {recipe['name']}"
    return f"<section><h2>{escape(title)}</h2><p>{escape(recipe['summary'])}.</p>{''.join(parts)}</section>"


def ladder_section(report: Plain) -> str:
    """Return what the repair ladder tried, where it was climbed."""
    parts = [_ladder(name, found) for name, found in (report.get("pareto") or {}).items()]
    if not parts:
        return ""
    lead = (
        "Recipes from the fastest to the gentlest, until one passed; bold: nothing else that was tried is better in "
        "every respect."
    )
    return f"<section><h2>Repair</h2><p>{lead}</p>{''.join(parts)}</section>"


def _ladder(name: str, found: Plain) -> str:
    head = "".join(f"<th{mark}>{title}</th>" for title, mark in _LADDER)
    rows = "".join(_rung(point, found["front"]) for point in found["points"])
    return f"<h3>{escape(name)}</h3><div class='scroll'><table><tr>{head}</tr>{rows}</table></div>"


_LADDER = (
    ("recipe", ""),
    ("judged", " class=n"),
    ("loss", " class=n"),
    ("kB", " class=n"),
    ("x float's speed", " class=n"),
    ("", ""),
)


def _rung(point: Plain, front: Sequence[str]) -> str:
    name = escape(point["recipe"])
    shown = [
        ("value", "{:.4f}", 1),
        ("loss", "{:+.4f}", 1),
        ("size", "{:,.1f}", 1000),
        ("speedup", "{:.2f}", 1),
    ]
    numbers = "".join(
        f"<td class=n>{'' if point.get(key) is None else words.format(point[key] / unit)}</td>"
        for key, words, unit in shown
    )
    end = "<span class='tag pass'>pass</span>" if point["passed"] else escape(str(point.get("why") or ""))
    return f"<tr><td>{f'<b>{name}</b>' if point['recipe'] in front else name}</td>{numbers}<td>{end}</td></tr>"


def _details(variant: Plain) -> Plain:
    found: Plain = (variant.get("evaluation") or {}).get("details", {})
    return found


def _figures(variant: Plain) -> str:
    details = _details(variant)
    averages = {**(details.get("averages") or {}), **_of_numbers(details)}
    if not averages:
        return ""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td class=n>{each['artifact']:.4f}</td><td class=n>{each['source']:.4f}</td>"
        f"<td class=n>{each['artifact'] - each['source']:+.4f}</td></tr>"
        for name, each in averages.items()
    )
    head = "<tr><th>figure</th><th class=n>artifact</th><th class=n>float</th><th class=n>change</th></tr>"
    table = f"<div class='scroll'><table>{head}{rows}</table></div>"
    return f"<details><summary>All figures of the task</summary>{table}</details>"


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
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td class=n>{each['max_abs']:.4g}</td><td class=n>{each['rmse']:.4g}</td>"
        f"<td class=n>{each['snr_db']:.1f}</td><td class=n>{each['cosine']:.6f}</td></tr>"
        for name, each in parity.items()
        if each
    )
    head = (
        "<tr><th>output</th><th class=n>largest difference</th><th class=n>RMSE</th><th class=n>signal/noise, dB</th>"
        "<th class=n>cosine</th></tr>"
    )
    agreement = _details(variant).get("agreement")
    same = f"<p>Both answer the same class on {agreement:.2%} of the samples.</p>" if agreement is not None else ""
    return f"<h3>Outputs against float</h3>{same}<div class='scroll'><table>{head}{rows}</table></div>"


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


def _placement(variant: Plain) -> str:
    found = variant.get("placement")
    if not found:
        return ""
    share = found.get("macs_share")
    shown = "" if share is None else f", {share:.1%} of the multiplications"
    lead = f"{found['accelerator']} operators on the accelerator{shown}; {found['cpu']} on the CPU."
    rows = "".join(
        f"<tr><td>{escape(str(each['name']))}</td><td>{escape(str(each['op']))}</td><td>{escape(str(each['why']))}</td></tr>"
        for each in found.get("fallback", ())
    )
    table = f"<div class='scroll'><table><tr><th>operator</th><th>kind</th><th>why</th></tr>{rows}</table></div>"
    return f"<h3>Placement</h3><p>{escape(lead)}</p>{table if rows else ''}"


def _ranges(variant: Plain) -> str:
    found = (variant.get("conversion") or {}).get("ranges")
    if not found:
        return ""
    return (
        f"<details><summary>Ranges that calibration gave ({len(found)} tensors)</summary><figure>{charts.ranges(found)}"
        "</figure></details>"
    )
