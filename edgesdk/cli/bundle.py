"""`edge bundle inspect|verify`: look into a bundle and check it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edgesdk.bundle.archive import Bundle

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Look into a bundle and check it.")

File = Annotated[Path, typer.Argument(help="A bundle (.edge).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def inspect(file: File, as_json: Json = False) -> None:
    """Show what a bundle holds: contract, requirements, files, evaluation. Only its layout is checked; see `verify`."""
    import msgspec  # noqa: PLC0415 - `edge --help` stays quick

    from edgesdk.bundle.archive import open_bundle  # noqa: PLC0415

    with open_bundle(file) as bundle:
        if as_json:
            head = {"size": bundle.size, "sha256": bundle.sha256()}
            typer.echo(json.dumps({**head, "manifest": msgspec.to_builtins(bundle.manifest)}))
            return
        for line in _describe(bundle):
            typer.echo(line)


@app.command()
def verify(file: File, as_json: Json = False) -> None:
    """Check every byte of a bundle: layout, manifest, the SHA-256 of every file. Signatures are another matter."""
    from edgesdk.bundle.archive import open_bundle  # noqa: PLC0415 - `edge --help` stays quick

    with open_bundle(file) as bundle:
        bundle.verify()
        digest, count = bundle.sha256(), len(bundle.entries)
        if as_json:
            typer.echo(json.dumps({"ok": True, "sha256": digest, "size": bundle.size, "files": count}))
            return
    typer.echo(f"{file}: whole; {count} files, {bundle.size:,} bytes, sha256 {digest}")


def _describe(bundle: Bundle) -> list[str]:
    manifest, contract = bundle.manifest, bundle.manifest.contract
    needs = manifest.requirements
    runtimes = " or ".join(f"{need.package or need.name} >= {need.min_version}" for need in needs.runtimes)
    rows: list[tuple[str, str]] = [
        ("bundle", f"{manifest.model} {manifest.release}, variant {manifest.variant}"),
        ("target", manifest.target),
        ("size", f"{bundle.size:,} bytes"),
        ("sha256", bundle.sha256()),
        ("contract", f"{contract.version}, {contract.task}"),
        *(("input", _tensor(spec)) for spec in contract.inputs),
        *(("output", _tensor(spec)) for spec in contract.outputs),
        ("labels", ", ".join(contract.labels) or "none"),
        ("needs", f"{runtimes or 'any runtime'}; {' or '.join(needs.architectures) or 'any architecture'}"),
    ]
    if (found := manifest.evaluation) is not None:
        low, high = found.interval
        value = f"{found.metric} {found.value:.4f} (source {found.source_value:.4f}, difference {found.difference:+.4f}"
        rows.append(("evaluation", f"{value} [{low:+.4f}, {high:+.4f}]) on {found.samples} samples, {found.runtime}"))
    rows.append(("golden set", _golden(bundle)))
    rows += [("file", f"{file.path}  {file.size:,} bytes  {file.role}") for file in manifest.files]
    return [f"{name:<11} {text}" for name, text in rows]


def _golden(bundle: Bundle) -> str:
    golden = bundle.manifest.golden
    parity = f"{golden.parity.count} for parity" if golden.parity else "none for parity"
    truth = f"{golden.truth.count} labelled" if golden.truth else "none labelled"
    return f"{parity}, {truth}"


def _tensor(spec: Any) -> str:
    shape = ", ".join(map(str, spec.shape))
    facts = [spec.layout, spec.unit, f"within {list(spec.range)}" if spec.range else None]
    return " ".join([f"{spec.name} {spec.dtype} [{shape}]", *(f"({fact})" for fact in facts if fact)])
