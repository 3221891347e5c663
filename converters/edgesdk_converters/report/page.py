"""`report.html`: one self-contained page, no script, no request to anywhere. The verdict first."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from edgesdk_converters.report import charts
from edgesdk_converters.report.details import artifact_section, ladder_section, on_accelerator
from edgesdk_converters.report.table import table
from edgesdk_converters.report.words import artifact_name, change, is_share, kind_of, worse

PAGE_NAME = "report.html"
SEVERAL = 2
"""Refused variants from here on get their reasons listed; one stands above."""
Plain = Mapping[str, Any]


def render(report: Plain) -> str:
    """Render what `make_report` returned.

    Returns:
        A complete HTML document.
    """
    style = files("edgesdk_converters.report").joinpath("report.css").read_text()
    title = f"{report['model']} {report['release']}{', refused' if report.get('refused') else ''}"
    parts = [
        f"<header><h1>{escape(title)}</h1><p>{escape(_what(report))}</p></header>",
        _verdict(report),
        _cards(report),
        _variants(report),
        *(artifact_section(variants) for variants in grouped(report)),
        ladder_section(report),
        _data(report),
        _origin(report),
        "<footer>Made by <code>edge convert</code>; the same figures as data: <code>report.json</code>.</footer>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def grouped(report: Plain) -> list[list[Plain]]:
    """Return the variants by artifact: targets share them, unless a vendor's tool quantizes by itself."""
    groups: dict[tuple[str, ...], list[Plain]] = {}
    for variant in report["variants"]:
        made = variant["target"] if variant.get("made_by") else ""
        groups.setdefault((variant["format"], variant["recipe"]["name"], made), []).append(variant)
    return list(groups.values())


def verdict_of(variant: Plain) -> Plain | None:
    """Return the gate's word on a variant, in the runtime that judges."""
    evaluation = variant.get("evaluation")
    if evaluation is None:
        return None
    verdicts: Mapping[str, Plain] = evaluation["details"]["gate"]["verdicts"]
    package = evaluation["runtime"].split(" ")[0]
    return verdicts.get(package) or next(iter(verdicts.values()))


def _what(report: Plain) -> str:
    targets = dict.fromkeys(variant["target"] for variant in report["variants"])
    sources = ", ".join(source["file"] for source in report["sources"])
    meant = f", for {', '.join(targets)}" if targets else ""
    done = "tried" if report.get("refused") else "built"
    return f"{report['contract']['task']}, from {sources}{meant}; {done} {report['built_at']}"


def _verdict(report: Plain) -> str:
    refused = report.get("refused")
    if refused is not None:
        lead, more = f"Refused ({refused['code']}): {refused['message']}", f"{refused['hint']} There is no release."
        return f"<div class='verdict refused'><b>{_lines(lead)}</b><small>{escape(more)}</small></div>"
    gate, judged = report["gate"], [each for each in map(verdict_of, report["variants"]) if each is not None]
    passed = sum(each["outcome"] == "pass" for each in judged)
    if gate["on"] and judged:
        every = "the one variant" if len(judged) == 1 else f"each of the {len(judged)} variants"
        lead = f"Passed: {every} is shown to lose at most {_limit(judged[0])} against float."
        worst = max(judged, key=lambda each: each["loss"])
        rate = f"Wrong for at most {100 * worst['alpha']:.2g} % of artifacts that lose more."
        more = f"{rate} Nearest to the limit: {worst['reason']}."
    elif judged:
        lead = f"Packed without the gate: {gate['reason']}"
        more = f"{passed} of {len(judged)} variants would have passed."
    else:
        lead, more = "Not judged", "There was no evaluation data."
    style = "" if gate["on"] and judged else " off"
    return f"<div class='verdict{style}'><b>{escape(lead)}</b><small>{escape(more)}</small></div>"


def _lines(text: str) -> str:
    return "<br>".join(map(escape, text.splitlines()))


def _limit(verdict: Plain) -> str:
    if verdict["unit"] != 1:
        return f"{verdict['max_drop']:g} standard deviations of the labels ({verdict['metric']})"
    if not verdict["share"]:
        return f"{verdict['max_drop']:g} of {verdict['metric']}"
    points = 100 * verdict["max_drop"]
    return f"{points:g} point{'' if points == 1 else 's'} of {verdict['metric']}"


def _cards(report: Plain) -> str:
    variants = report["variants"]
    if not variants:
        return ""
    cards = [*_placed(variants)]
    smallest = min(variants, key=lambda variant: variant["artifact_size"] / variant["source_size"])
    ratio = smallest["source_size"] / smallest["artifact_size"]
    # int8 of a few kB can be larger than float: every scale is stored beside its weights.
    size = (f"{ratio:.1f} x", "smaller than") if ratio >= 1 else (f"{1 / ratio:.1f} x", "as large as")
    cards.append((size[0], f"{size[1]} its source: {artifact_name(smallest)}"))
    judged = [variant["evaluation"] for variant in variants if variant.get("evaluation")]
    if judged:
        kind = kind_of(judged[0])
        worst = min(judged, key=lambda found: found["difference"] * (1 if kind["greater_is_better"] else -1))
        shown = change(worst["difference"], None, share=kind["share"])
        of = f", the worst of {len(judged)}" if len(judged) > 1 else ""
        sign = worse(greater=kind["greater_is_better"])
        cards.append((shown, f"change of {worst['metric']} against float{of}; {sign}"))
        cards.append((f"{worst['samples']:,}", "samples judged, the same for both"))
    timed = [variant["latency"] for variant in variants if (variant.get("latency") or {}).get("timed")]
    if timed:
        best = max(timed, key=lambda found: found["speedup"])
        cards.append(
            (f"{best['speedup']:.2f} x", f"as fast as float at best, on {best['machine']['architecture']} here")
        )
    made = "".join(f"<div class='card'><b>{escape(a)}</b><span>{escape(b)}</span></div>" for a, b in cards)
    return f"<div class='cards'>{made}</div>"


def _placed(variants: Sequence[Plain]) -> Iterator[tuple[str, str]]:
    """Yield the share on an accelerator where it is least: as its compiler placed it, else as the lint foresees it."""
    known = [(share, variant) for variant in variants if (share := on_accelerator(variant)) is not None]
    if known:
        share, variant = min(known, key=lambda each: each[0])
        of = f", the least of {len(known)} variants" if len(known) > 1 else ""
        how = "on the accelerator" if variant.get("placement") else "fits the accelerator, by the lint's rules,"
        yield (
            f"{'' if variant.get('placement') else FORESEEN}{share:.1%}",
            f"of the work {how} of {variant['target']}{of}",
        )


def _variants(report: Plain) -> str:
    variants = report["variants"]
    if not variants:
        return ""
    judged = [variant["evaluation"] for variant in variants if variant.get("evaluation")]
    notes = (
        [f"Change: artifact minus float; {worse(greater=kind_of(judged[0])['greater_is_better'])}."] if judged else []
    )
    if not all(found["on_target"] for found in judged):
        notes.append("* judged on this machine, not on the target's architecture.")
    if any(on_accelerator(variant) is not None and not variant.get("placement") for variant in variants):
        notes.append(f"{FORESEEN} as the lint's rules foresee it.")
    placed = any(on_accelerator(variant) is not None for variant in variants)
    columns = [column for column in _COLUMNS if placed or column[0] != ACCELERATOR]
    refused = _refused(report)
    cells = [_cells(variant, refused) for variant in variants]
    cells += [{"variant": escape(name), "gate": _tag("refuse")} for name in _unmade(report)]
    rows = [[each.get(name, "") for name, _number in columns] for each in cells]
    if is_share(report):
        columns = [(IN_POINTS if name == CHANGE else name, number) for name, number in columns]
    return (
        "<section><h2>Variants</h2><p>Each artifact ran in its own runtime, on the samples of its float source.</p>"
        f"{table(columns, rows)}<p>{' '.join(notes)}</p>{_reasons(refused)}{_plots(report)}</section>"
    )


def _refused(report: Plain) -> Mapping[str, Plain]:
    """Return why variants of a refused conversion are refused, by name."""
    refused = report.get("refused")
    return refused["variants"] if refused else {}


def _unmade(report: Plain) -> list[str]:
    """Return the refused variants that came to no figures."""
    made = {variant["variant"] for variant in report["variants"]}
    return [name for name in _refused(report) if name not in made]


def _reasons(refused: Mapping[str, Plain]) -> str:
    """Return why each of several variants is refused; of one alone it stands above."""
    if len(refused) < SEVERAL:
        return ""
    why = "".join(
        f"<li><b>{escape(name)}</b>: {_lines(each['message'].removeprefix(name).lstrip(': '))}</li>"
        for name, each in refused.items()
    )
    return f"<h3>Why they are refused</h3><ul>{why}</ul>"


FORESEEN = "≈"
ACCELERATOR, CHANGE, IN_POINTS = "on accelerator", "change (95 %)", "change, points (95 %)"
_COLUMNS = (
    ("variant", False),
    ("gate", False),
    (ACCELERATOR, True),
    ("kB", True),
    ("judged", True),
    ("float", True),
    (CHANGE, True),
    ("x float speed", True),
    ("runtime", False),
)


_WORDS = {"pass": "passes", "refuse": "refused"}
"""The terminal's."""


def _tag(outcome: str, *, refused: bool = False) -> str:
    word = _WORDS.get(outcome, outcome.replace("-", " "))
    lead = "refused: " if refused and outcome not in _WORDS else ""
    return f"<span class='tag {outcome}'>{lead}{word}</span>"


def _cells(variant: Plain, refused: Collection[str]) -> dict[str, str]:
    """Return the cells of a variant by their columns; `refused` are those that anything refuses."""
    found, verdict, latency = variant.get("evaluation"), verdict_of(variant), variant.get("latency") or {}
    outcome = verdict["outcome"] if verdict is not None else "unjudged"
    is_refused = variant["variant"] in refused
    if is_refused and outcome in {"pass", "unjudged"}:  # for its speed, saturation or placement
        outcome = "refuse"
    cells = {"variant": escape(variant["variant"]), "gate": _tag(outcome, refused=is_refused)}
    share = on_accelerator(variant)
    if share is not None:
        cells[ACCELERATOR] = f"{'' if variant.get('placement') else FORESEEN}{share:.1%}"
    cells["kB"] = f"{variant['artifact_size'] / 1000:,.1f}"
    if found is not None:
        mark = "" if found["on_target"] else "*"
        cells |= {"judged": f"{found['value']:.4f}{mark}", "float": f"{found['source_value']:.4f}"}
        cells[CHANGE] = change(found["difference"], found["interval"], share=kind_of(found)["share"], unit=False)
    if latency.get("timed"):
        cells["x float speed"] = f"{latency['speedup']:.2f}{'' if latency['on_target'] else '*'}"
    cells["runtime"] = escape(", ".join(each["runtime"] for each in variant["runtimes"].values()))
    return cells


def _plots(report: Plain) -> str:
    variants = report["variants"]
    judged = [variant for variant in variants if variant.get("evaluation")]
    parts = []
    if judged:
        found = judged[0]["evaluation"]
        kind, verdict = kind_of(found), verdict_of(judged[0])
        limit = None if verdict is None else verdict["max_drop"] * verdict["unit"]
        drawing = charts.changes(judged, limit, share=kind["share"], greater=kind["greater_is_better"])
        unit = "points" if kind["share"] else "in its own unit"
        less = "" if kind["greater_is_better"] else "; less is better"
        title = f"Change of {escape(found['metric'])} against float, {unit}{less}, with 95 % paired intervals"
        parts.append(f"<h3>{title}</h3><figure>{drawing}</figure>")
    sizes = [(source["file"], source["size"], "float") for source in report["sources"]]
    made = [variants[0] for variants in grouped(report)]
    sizes += [(artifact_name(each), each["artifact_size"], "own") for each in made]
    parts.append(f"<h3>Size</h3><figure>{charts.sizes(sizes)}</figure>")
    parts.append(_speed(made))
    return "".join(parts)


def _speed(made: Sequence[Plain]) -> str:
    timed = [(each, each["latency"]) for each in made if (each.get("latency") or {}).get("timed")]
    if not timed:
        return ""
    machine = timed[0][1]["machine"]
    drawing = charts.speeds([(artifact_name(each), found) for each, found in timed])
    return (
        f"<h3>Speed against float on {escape(machine['processor'])} ({escape(machine['architecture'])})</h3>"
        f"<figure>{drawing}<figcaption>Both called in turn, one thread; medians of rounds. It is the time of the "
        "machine that converted: of another target it says nothing.</figcaption></figure>"
    )


def _data(report: Plain) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(each['file'])}</td><td class=n>{each['samples']:,}</td>"
        f"<td><code>{each['sha256'][:16]}…</code></td></tr>"
        for name, each in report["data"].items()
    )
    doctor = report["doctor"]
    diagnosis = doctor["diagnosis"]
    if not doctor["on"]:
        said = f"The calibration doctor was off: {escape(doctor['reason'] or '')}"
    elif diagnosis is None:
        said = "Nothing was calibrated."
    else:
        notes = "".join(f"<li>{escape(each['where'])}: {escape(each['what'])}</li>" for each in diagnosis["findings"])
        listed = f"<ul>{notes}</ul>" if notes else ""
        said = f"The calibration doctor ran {diagnosis['checks']} checks and stopped nothing. {listed}"
    few = "Few" if report["data"].get("truth") else "No"
    weak = f"<p>{few} truth examples travel with this release: devices can hardly judge its successors by them.</p>"
    weak = weak if report["weak_truth"] and not report.get("refused") else ""
    return (
        "<section><h2>Data</h2><div class='scroll'><table><tr><th>for</th><th>file</th><th class=n>samples</th>"
        f"<th>SHA-256</th></tr>{rows}</table></div><p>{said}</p>{weak}</section>"
    )


def _origin(report: Plain) -> str:
    lineage = report["lineage"]
    facts = [(source["file"], f"<code>{source['sha256']}</code>") for source in report["sources"]]
    if lineage:
        facts.append(("code", f"<code>{escape(str(lineage.get('code_commit') or 'not under version control'))}</code>"))
    tools = ", ".join(f"{name} {version}" for name, version in lineage.get("tools", {}).items())
    facts += [("tools", escape(tools))] if tools else []
    if lineage.get("parent_release"):
        facts.append(("replaces", escape(lineage["parent_release"])))
    table = "".join(f"<tr><th>{escape(name)}</th><td>{value}</td></tr>" for name, value in facts)
    steps = "".join(
        f"<tr><td>{escape(step['name'])}{' (at hand)' if step['cached'] else ''}</td>"
        f"<td class=n>{step['seconds']:.1f}</td></tr>"
        for step in report["steps"]
    )
    return (
        f"<section><h2>Where it came from</h2><div class='scroll'><table>{table}</table></div>"
        f"<details><summary>{len(report['steps'])} steps</summary><div class='scroll'><table><tr><th>step</th>"
        f"<th class=n>seconds</th></tr>{steps}</table></div></details></section>"
    )
