"""`edge bundle inspect|verify|extract|export`: look into a bundle, check it, unpack it, carry a release on a disk."""

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


@app.command()
def extract(
    file: File,
    out: Annotated[Path, typer.Option("-o", "--out", help="A new or empty folder.")],
    as_json: Json = False,
) -> None:
    """Unpack a bundle, every byte checked, so that what no agent deploys gets into firmware or a vendor's SDK."""
    from edgesdk.bundle.archive import open_bundle  # noqa: PLC0415 - `edge --help` stays quick

    with open_bundle(file) as bundle:
        bundle.verify()
        bundle.extract(out)
        artifacts = [stage.artifact for stage in bundle.manifest.stages]
    if as_json:
        typer.echo(json.dumps({"folder": str(out), "artifacts": artifacts}))
        return
    typer.echo(f"{file} is unpacked into {out}; artifact: {', '.join(artifacts)}")


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    release: Annotated[str, typer.Argument(help="A release that the repository lists.")],
    repo: Annotated[Path, typer.Option("--repo", help="Folder of the repository.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write.")],
    variant: Annotated[list[str] | None, typer.Option("--variant", help="Only this one; may be repeated.")] = None,
    desired: Annotated[Path | None, typer.Option(help="A device's signed desired document (JSON).")] = None,
    device: Annotated[str | None, typer.Option(help="Ask the hub for this device's desired document.")] = None,
    hub: Annotated[str | None, typer.Option("--hub", help="The hub's URL.", envvar="EDGE_HUB")] = None,
    token: Annotated[str | None, typer.Option("--token", help="API token.", envvar="EDGE_TOKEN")] = None,
    directory: Annotated[Path | None, typer.Option("--dir", help="The hub's folder.", envvar="EDGE_HUB_DIR")] = None,
    ca: Annotated[Path | None, typer.Option("--ca", help="The hub's authority, for https.", envvar="EDGE_CA")] = None,
    as_json: Json = False,
) -> None:
    """Write a release into one file for devices without network: `edge-agent import FILE` there.

    It holds the signed metadata, every root rotation, the release and its policy, and with --device or --desired what
    the hub asks of one device. Without that a device only keeps the release ready (unless its configuration says more).
    """
    from edgesdk.clock import SystemClock  # noqa: PLC0415 - `edge --help` stays quick
    from edgesdk.errors import ConfigError  # noqa: PLC0415
    from edgesdk.trust.carried import export_release  # noqa: PLC0415

    if desired is not None and device is not None:
        raise ConfigError("argument-invalid", "--desired and --device both name a desired document")
    envelope = _read_envelope(desired) if desired else None
    if device is not None:
        from edgesdk.fleet.client import HubClient  # noqa: PLC0415 - needs the extra `hub`

        with HubClient.find(url=hub, token=token, folder=directory, ca=ca) as client:
            envelope = client.get(f"/devices/{device}/desired")
    addressee = _addressee(envelope, model, release) if envelope else None
    made = export_release(
        repo,
        model,
        release,
        out,
        now=SystemClock().now(),
        variants=variant or (),
        desired=envelope,
        device=addressee,
    )
    if as_json:
        typer.echo(json.dumps({"file": str(made.path), "size": made.size, "sha256": made.sha256, "device": addressee}))
        return
    whom = f"for {addressee}" if addressee else "for any device, without a desired document"
    typer.echo(f"{made.path}: {model} {release} {whom}; {made.size:,} bytes, sha256 {made.sha256}")


def _read_envelope(path: Path) -> dict[str, Any]:
    from edgesdk.errors import ConfigError  # noqa: PLC0415 - with the command

    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError("file-missing", f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError("data-invalid", f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError("data-invalid", f"{path} is no signed document (DSSE)")
    return found


def _addressee(envelope: dict[str, Any], model: str, release: str) -> str:
    """Return whose document it is; refuse one that asks for another release, which no device could use offline."""
    from base64 import b64decode  # noqa: PLC0415 - with the command

    from edgesdk.errors import ConfigError  # noqa: PLC0415
    from edgesdk.protocol.messages import Desired, decode  # noqa: PLC0415

    try:
        document = decode(b64decode(envelope["payload"]), Desired)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError("data-invalid", f"the desired document cannot be read: {error}") from error
    wanted = document.models.get(model)
    if wanted is None or wanted.release != release:
        asked = f"{model} {wanted.release}" if wanted else f"no {model}"
        raise ConfigError(
            "argument-invalid",
            f"the desired document asks {document.device} for {asked}, not for {model} {release}",
            hint=f"Deploy it first: edge fleet deploy {model} {release} --devices {document.device}.",
        )
    return document.device


def _describe(bundle: Bundle) -> list[str]:
    from edgesdk.targets.matching import runtime_words  # noqa: PLC0415 - `edge --help` stays quick

    manifest, contract = bundle.manifest, bundle.manifest.contract
    needs = manifest.requirements
    runtimes = " or ".join(runtime_words(need) for need in needs.runtimes)
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
