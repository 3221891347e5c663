"""The demo's HTML page: one self-contained file, no script, no request to anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from statistics import median

from edgesdk.demo import plots
from edgesdk.demo.facts import Call, Facts, Rollout, Variant


def render(facts: Facts) -> str:
    """Render the page.

    Args:
        facts: What the demo saw.

    Returns:
        A complete HTML document.
    """
    style = files("edgesdk.demo").joinpath("report.css").read_text()
    parts = [
        _header(facts),
        _cards(facts),
        _rollouts(facts),
        _live(facts),
        _conversion(facts),
        _per_class(facts.variants),
        _explore(facts),
        _footer(facts),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>edgesdk demo</title><style>{style}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def _header(facts: Facts) -> str:
    return (
        "<header><h1>Four releases, two of them bad</h1>"
        f"<p>edgesdk {escape(facts.edgesdk)} demo on {escape(facts.machine)}, {escape(facts.started)}: a model of real "
        "smartwatch recordings on its whole way, from conversion to two devices and back.</p></header>"
    )


def _cards(facts: Facts) -> str:
    failed = sum(1 for call in facts.calls if call.failed)
    saved = sum(1 for call in facts.calls if not call.failed and call.served not in {call.release, ""})
    moved = sum(rollout.bytes_moved for rollout in facts.rollouts)
    cards = [
        (f"{len(facts.calls):,}", "calls by the two apps"),
        (f"{failed:,}", "calls that failed"),
        (f"{saved:,}", "calls of a bad trial answered by the good generation"),
        (f"{moved / 1024:,.0f} KiB", "moved to the devices"),
        (f"{facts.seconds:.0f} s", "for everything on this page"),
    ]
    return (
        "<div class='cards'>"
        + "".join(f"<div class='card'><b>{a}</b><span>{b}</span></div>" for a, b in cards)
        + "</div>"
    )


def _rollouts(facts: Facts) -> str:
    rows = "".join(_rollout_row(rollout) for rollout in facts.rollouts)
    end = max((call.at for call in facts.calls), default=1.0)
    return (
        "<section><h2>What the devices did</h2><p>Each device tests a release before any app sees it, then serves it on "
        "trial, and commits or rolls back by itself. Dotted lines: the operator's deployments.</p>"
        f"<figure>{plots.timeline(facts.moments, facts.rollouts, end)}</figure><div class='scroll'><table>"
        "<tr><th>release</th><th>what it is</th><th>outcome</th><th>on the devices</th><th class='n'>seconds</th>"
        f"<th class='n'>KiB moved</th></tr>{rows}</table></div></section>"
    )


def _rollout_row(rollout: Rollout) -> str:
    ends = {m.device: m for m in sorted(rollout.moments, key=lambda moment: moment.at)}
    devices = "<br>".join(
        f"{escape(device)}: <span class='tag {escape(last.state)}'>{escape(last.state.replace('_', ' '))}</span> "
        f"{escape(last.reason)}"
        for device, last in sorted(ends.items())
    )
    return (
        f"<tr><td><b style='color:{plots.colour(rollout.release)}'>{escape(rollout.release)}</b></td>"
        f"<td>{escape(rollout.title)}</td><td><span class='tag {escape(rollout.outcome)}'>{escape(rollout.outcome)}</span></td>"
        f"<td>{devices}</td><td class='n'>{rollout.ended - rollout.started:.1f}</td>"
        f"<td class='n'>{rollout.bytes_moved / 1024:,.0f}</td></tr>"
    )


def _live(facts: Facts) -> str:
    figures = "".join(
        f"<h3>{escape(device)} <span style='color:var(--muted);font-weight:400'>({escape(what)})</span></h3>"
        f"<figure>{plots.calls(facts.calls, device)}</figure>{_latencies(facts.calls, device)}"
        for device, what in facts.devices.items()
    )
    slow = ", ".join(
        f"{escape(release)}: {count / max(1, facts.telemetry_releases.get(release, 0)):.0%} of its calls"
        for release, count in sorted(facts.slow_calls.items())
        if release != "1.0.0"
    )
    seen = ", ".join(f"{escape(release)}: {count:,}" for release, count in sorted(facts.telemetry_releases.items()))
    return (
        "<section><h2>What the apps saw</h2><p>Every call of <code>edgesdk.Model(&quot;wearable&quot;).classify(window)</code>, "
        "coloured by the release that answered. The release changes between two calls; no call waits for it.</p>"
        f"{figures}<p>The same, as telemetry over MQTT told it: {facts.telemetry_records} records; calls by release: "
        f"{seen or 'none'}. Slower than {facts.slow_ms:.2f} ms ({slow or 'nothing'}) counts as slow from 2.0.0 on.</p></section>"
    )


def _latencies(calls: Sequence[Call], device: str) -> str:
    rows = []
    for release in sorted({call.release for call in calls if call.device == device and not call.failed}):
        mine = sorted(
            call.ms for call in calls if call.device == device and call.release == release and not call.failed
        )
        right = sum(1 for c in calls if c.device == device and c.release == release and c.label == c.truth)
        rows.append(
            f"<tr><td>{escape(release)}</td><td class='n'>{len(mine):,}</td><td class='n'>{right / len(mine):.3f}</td>"
            f"<td class='n'>{median(mine):.2f}</td><td class='n'>{_percentile(mine, 0.99):.2f}</td></tr>"
        )
    return (
        "<div class='scroll'><table><tr><th>answered by</th><th class='n'>calls</th><th class='n'>right</th>"
        f"<th class='n'>median ms</th><th class='n'>99th percentile ms</th></tr>{''.join(rows)}</table></div>"
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _conversion(facts: Facts) -> str:
    rows = "".join(_variant_row(variant) for variant in facts.variants)
    refusal = ""
    if facts.refusal:
        refusal = (
            f"<h3>Refused: {escape(facts.refusal.what)}</h3><blockquote><b>{escape(facts.refusal.message)}</b><br>"
            f"{escape(facts.refusal.hint)} <code>{escape(facts.refusal.code)}</code></blockquote>"
        )
    return (
        "<section><h2>What was converted</h2><p>Each artifact is evaluated in its own runtime on subjects that no training saw, "
        "paired with its float source on the same windows. Artifacts for another architecture than this host's are evaluated "
        f"here all the same, and marked.</p>{refusal}<figure>{plots.accuracy(facts.variants)}</figure><div class='scroll'><table>"
        "<tr><th>release</th><th>variant</th><th>precision</th><th class='n'>KiB</th><th class='n'>source KiB</th>"
        "<th class='n'>accuracy</th><th class='n'>float</th><th class='n'>difference, points</th><th>evaluated in</th></tr>"
        f"{rows}</table></div></section>"
    )


def _variant_row(variant: Variant) -> str:
    low, high = (100 * bound for bound in variant.interval)
    where = variant.runtime + ("" if variant.on_target else " (on the host, not on the target)")
    return (
        f"<tr><td>{escape(variant.release)}</td><td>{escape(variant.variant)}</td><td>{escape(variant.precision)}</td>"
        f"<td class='n'>{variant.size / 1024:,.0f}</td><td class='n'>{variant.source_size / 1024:,.0f}</td>"
        f"<td class='n'>{variant.accuracy:.4f}</td><td class='n'>{variant.source_accuracy:.4f}</td>"
        f"<td class='n'>{100 * variant.difference:+.2f} [{low:+.2f}, {high:+.2f}]</td><td>{escape(where)}</td></tr>"
    )


def _per_class(variants: Iterable[Variant]) -> str:
    blocks = []
    for variant in _one_per_release(variants):
        labels, classes, confusion = (variant.details[key] for key in ("labels", "classes", "confusion"))
        blocks.append(
            "<div class='two'><figure>"
            + plots.per_class(variant, classes)
            + "</figure><figure>"
            + plots.confusion(confusion, labels, f"{variant.release} {variant.variant}")
            + "</figure></div>"
        )
    return "<section><h2>Class by class</h2><p>On the held-out subjects.</p>" + "".join(blocks) + "</section>"


def _one_per_release(variants: Iterable[Variant]) -> list[Variant]:
    first: dict[str, Variant] = {}
    for variant in variants:
        first.setdefault(variant.release, variant)
    return list(first.values())


def _explore(facts: Facts) -> str:
    if not facts.explore:
        return ""
    return "<section><h2>Explore it</h2><pre>" + escape("\n".join(facts.explore)) + "</pre></section>"


def _footer(facts: Facts) -> str:
    return (
        f"<footer>Made by <code>edge demo</code> in {facts.seconds:.0f} s. Times are of this machine, with hub, broker, two agents "
        "and two apps on it at once. Recordings: seglearn's watch data set (BSD). No Jetson, Raspberry Pi or NPU was measured."
        "</footer>"
    )
