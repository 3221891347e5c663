"""Results as a table on the terminal and as a page of the documentation. Pure, but for the date and the machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from convert.limits import most_samples
from convert.peers import PEERS
from convert.zoo import Case

Row = dict[str, Any]
OURS = "edgesdk"
POINT, SHOWN = 0.01, 140
PLAIN = frozenset({"int8", "int8-tensorrt", "int8-qnn"})
TITLES = {OURS: "**edgesdk**", **{peer.name: peer.title for peer in PEERS}}
HEAD = (
    "case",
    "tool",
    "size",
    "figure",
    "float",
    "difference (95 %), points",
    "RMSE",
    "latency int8/float",
    "placement",
)
TARGETS = ("linux-x86_64-cpu", "linux-arm64-cpu", "ethos-u55-128", "jetson-orin-gpu", "qualcomm-htp", "rk3588")
NOT_RUN = (
    "PP-OCR's recogniser with all its 18,710 characters, and Silero VAD's other exports",
    "RK3588: Basic Pitch without the toolkit's rule that fails on it, and with time enough for the others",
    "hardware: no latency was measured on ARM, an NPU or a GPU; int8 ONNX was not run on x86 without VNNI",
)
FIGURES = {
    "accuracy": "accuracy against the labels",
    "decisions": "share of the float model's yes/no answers that stay the same",
    "cells": "F1 of the note cells above one half, against the float model's",
    "strings": "share of the lines of text that are read to the letter",
}


def broken(row: Row) -> str:
    """Return in which way an artifact is no stand-in for the float model; empty if that is not shown."""
    if row["status"] != "made":
        return str(row["status"])
    if row.get("broken_rows"):
        return f"NaN or infinity on {row['broken_rows']} samples"
    if (row.get("placement") or {}).get("refused"):
        return "the target refuses it"
    return "loses more than a point" if "interval" in row and row["interval"][1] < -POINT else ""


def holds(row: Row, limit: float = POINT) -> bool:
    """Say whether the interval shows that no more than `limit` is lost."""
    return "interval" in row and row["status"] == "made" and row["interval"][0] >= -limit


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Return rows by target, case, format and tool, ours first."""
    tools = list(TITLES)
    return sorted(rows, key=lambda row: (row["target"], row["case"], row["format"], tools.index(row["tool"])))


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as text, in the order of `HEAD`."""
    case = f"{row['case']} ({row['format']})"
    recipe = f", {row['recipe']}" if row.get("recipe", "int8") not in PLAIN else ""
    tool = TITLES[row["tool"]] + recipe + (f" ({row['note']})" if row.get("note") else "")
    size = f"{row['size_ratio']:.3f}" if row.get("size_ratio") else "-"
    if "value" not in row:
        return case, tool, size, row["status"], "-", _short(row), "-", "-", "-"
    low, high = row["interval"]
    difference = f"{100 * row['difference']:+.2f} ({100 * low:+.2f} … {100 * high:+.2f})"
    latency = "not run here"
    if "latency_ratio" in row:
        fastest, slowest = row["latency_interval"]
        latency = f"{row['latency_ratio']:.2f} ({fastest:.2f} … {slowest:.2f})"
    rmse = f"{row['rmse']:.4f}" if "rmse" in row else "-"
    note = f", {broken(row)}" if broken(row) else ""
    value, before = f"{100 * row['value']:.2f} %{note}", f"{100 * row['float_value']:.2f} %"
    return case, tool, size, value, before, difference, rmse, latency, placement(row)


def placement(row: Row) -> str:
    """Return where the operators run."""
    placed = row.get("placement")
    if not placed:
        return "CPU" if row["target"].endswith("-cpu") else "not told"
    total = placed["accelerator"] + placed["cpu"]
    share = placed.get("macs_share")
    macs = f", {share:.1%} of MACs" if share is not None else ""
    ops = sorted({op.partition(" ")[0] for op in placed.get("beside", ())})
    beside = f"; beside it: {', '.join(ops)}" if ops else ""
    return f"{placed['accelerator']} of {total} operators{macs}{beside}"


def _short(row: Row) -> str:
    """Return the end of what went wrong, where tools say it, without the paths of the machine that ran it."""
    words = re.sub(r"\S*/(?=[^/\s]+)", "", row.get("words", "")).replace("|", "/").replace("\n", " ").replace("^", "")
    said = re.sub(r" See \S+report\.html\.", "", row.get("cure") or "")
    cure = f" Cure: {said}" if row["status"] == "refused" and said else ""
    return f"{row.get('code', '')}: {'… ' if len(words) > SHOWN else ''}{' '.join(words[-SHOWN:].split())}{cure}"


def text(rows: Sequence[Row]) -> str:
    """Return everything for a terminal."""
    parts = []
    for target in sorted({row["target"] for row in rows}):
        chosen = [row for row in in_order(rows) if row["target"] == target]
        lines = [HEAD, *(tuple(cell.replace("*", "") for cell in cells(row)) for row in chosen)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
        parts.append(f"\n{target}")
        parts += ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        parts += ["", *summary(chosen)]
    return "\n".join(parts)


def summary(rows: Sequence[Row]) -> list[str]:
    """Return what the rows of one target come to, one sentence each."""
    ours = [row for row in rows if row["tool"] == OURS]
    made = sorted((row for row in ours if "difference" in row), key=lambda row: row["difference"])
    lines = _judges(rows)
    if made:
        drops = [-100 * row["difference"] for row in made]
        middle = (drops[len(drops) // 2] + drops[(len(drops) - 1) // 2]) / 2
        worst = made[0]
        lines.append(
            f"edgesdk: {len(made)} of {len(ours)} conversions made; drop: median {middle:.2f} points, worst "
            f"{drops[0]:.2f} ({worst['case']}, {worst['format']})."
        )
        shown = [row for row in made if holds(row)]
        lines.append(
            f"The interval shows a drop of at most one point for {len(shown)} of these {len(made)}{_not(made)}."
        )
    for tool in sorted({row["tool"] for row in rows} - {OURS}):
        theirs = [row for row in rows if row["tool"] == tool]
        bad = [row for row in theirs if broken(row)]
        words = "; ".join(f"{row['case']}: {broken(row)} (edgesdk: {_answer(row, ours)})" for row in bad)
        lines.append(f"{TITLES[tool]}: {len(bad)} of {len(theirs)} broken{f': {words}' if words else ''}.")
    return lines


def _judges(rows: Sequence[Row]) -> list[str]:
    """Say who answered for the artifacts, and to how many samples at most where a simulator is slow."""
    told = sorted({row["judged"] for row in rows if row.get("judged")})
    caps = {cap for row in rows if (cap := most_samples(row["case"], row["target"]))}
    most = " or ".join(f"{cap:,}" for cap in sorted(caps, reverse=True))
    fewer = f"; at most {most} evaluation samples of a case, drawn once" if caps else ""
    return [f"Judged by {', '.join(told)}{fewer}."] if told else []


def _not(made: Sequence[Row]) -> str:
    missing = [f"{row['case']} ({row['format']})" for row in made if not holds(row)]
    return f", not for {', '.join(missing)}" if missing else ""


def _answer(row: Row, ours: Sequence[Row]) -> str:
    same = next((each for each in ours if (each["case"], each["format"]) == (row["case"], row["format"])), None)
    if same is None:
        return "not run"
    if same["status"] != "made":
        return str(same["status"])
    return f"{100 * same['difference']:+.2f} points" if "difference" in same else "made, not judged"


def page(rows: Sequence[Row], cases: Mapping[str, Case]) -> str:
    """Return the page of the documentation."""
    return "\n".join([*_opening(rows, cases), *_tables(rows), ""])


def _by_revision(rows: Sequence[Row]) -> list[str]:
    """Return which of our rows are of which revision, but those of the one that has most."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in in_order(row for row in rows if row["tool"] == OURS):
        places = found.setdefault(row["run"]["commit"], {}).setdefault(row["case"], [])
        places.append(f"{row['target']} {row['format']}")
    by_count = sorted(found.items(), key=lambda each: sum(map(len, each[1].values())))
    lines = []
    for commit, cases in by_count[:-1]:
        told = [f"{case} ({', '.join(places)})" for case, places in cases.items()]
        lines.append(f"- {commit}: {'; '.join(told)}")
    return ["", f"Our rows are of revision {by_count[-1][0]} but these:", "", *lines] if lines else []


def _opening(rows: Sequence[Row], cases: Mapping[str, Case]) -> list[str]:
    runs = [row["run"] for row in rows]
    used = {row["case"]: cases[row["case"]] for row in in_order(rows) if row["case"] in cases}
    versions = {f"{name} {version}" for run in runs for name, version in run["versions"].items()}
    dates, machines, commits = (_between(run[key] for run in runs) for key in ("date", "machine", "commit"))
    tools = ", ".join(sorted(versions, key=str.lower))
    return [
        "# Conversions of real models, beside other tools' defaults",
        "",
        "Written by `python benchmarks/convert --render docs/conversion-benchmark.md` from what it ran; not by hand.",
        "",
        f"Run {dates} on {machines}, revision {commits}; {tools}.",
        *_by_revision(rows),
        "",
        "All tools got the same float model, the same calibration data and no options: `edge convert --repair`",
        "with the target's int8 recipe and its accuracy gate at one point (a recipe named behind edgesdk is a repair;",
        "without labels it judges reproduced variance, of which silero-vad may lose 0.1 %, basic-pitch 0.2 %),",
        "onnxruntime's `quant_pre_process` and `quantize_static`, litert-quantizer's `static_wi8_ai8` (moving ranges",
        "are its default) and `dynamic_wi8_afp32`, Olive's `OnnxStaticQuantization`. What failed is shown by the end",
        "of its own words. Every artifact then answered the same samples, one a call: in the same runtime",
        "(onnxruntime, LiteRT; one thread), or where a target has a compiler of its own, through that: ours and the",
        "others' are compiled and placed by the vendor's tool, and run in its simulator where it has one. Rockchip's",
        "toolkit quantizes ours from the float model, and takes the others' as they are; sizes were fixed for all, as",
        "compilers want it. A Jetson's row is the",
        "answer of TensorRT-RTX's parser. *Difference* is the artifact's figure less the float model's, in points,",
        "with a 95 % interval: exact and paired for accuracy, Clopper-Pearson for shares that stay the same, BCa",
        "bootstrap for F1.",
        "Samples are taken as independent; neighbouring windows of one recording and pictures of one cut-out are",
        "not, so those intervals are too narrow. *Size* (of what the target gets) and *latency* are ratios to the",
        "float artifact; calls alternate, and the latency interval is that of the median ratio. Other work ran on",
        "the machine.",
        "",
        "| case | model | data | figure |",
        "| --- | --- | --- | --- |",
        *(f"| {name} | {case.what} | {case.data} | {FIGURES[case.figure]} |" for name, case in used.items()),
        "",
        "Not run:",
        "",
        *(f"- {line}" for line in (*NOT_RUN, *_not_run(rows, cases))),
    ]


def _between(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values)))


def _not_run(rows: Sequence[Row], cases: Mapping[str, Case]) -> Iterable[str]:
    seen = {(row["case"], row["format"]) for row in rows}
    given = [(name, each) for name, case in cases.items() for each in case.formats]
    yield from (f"the case {name} as {each}" for name, each in given if (name, each) not in seen)
    targets = {row["target"] for row in rows}
    yield from (f"the target {target}" for target in TARGETS if target not in targets)
    tools = {row["tool"] for row in rows}
    yield from (title.replace("*", "") for tool, title in TITLES.items() if tool not in tools)


def _tables(rows: Sequence[Row]) -> list[str]:
    parts: list[str] = []
    for target in sorted({row["target"] for row in rows}):
        chosen = [row for row in in_order(rows) if row["target"] == target]
        lines = [f"| {' | '.join(cells(row))} |" for row in chosen]
        parts += ["", f"## {target}", "", *(f"- {line}" for line in summary(chosen)), ""]
        parts += [f"| {' | '.join(HEAD)} |", f"|{' --- |' * len(HEAD)}", *lines]
    return parts
