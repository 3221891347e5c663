"""`edge repo`: the signed storage of releases."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgesdk.trust.keys import PublicKey
    from edgesdk.trust.repository import Published

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Signed storage of releases (TUF): init, publish, rotate, refresh."
)

RepoOption = Annotated[Path, typer.Option("--repo", help="The repository's folder.")]
KeysOption = Annotated[
    list[Path],
    typer.Option("--keys", help="Key folder; repeat it where several people hold keys. [default: REPO-keys]"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def init(
    repo: Annotated[Path, typer.Argument(metavar="DIR", help="Where the repository goes.")],
    keys: Annotated[Path | None, typer.Option("--keys", help="Where the keys go. [default: DIR-keys]")] = None,
    threshold: Annotated[int, typer.Option(help="Keys that must sign root and targets.", min=1, max=8)] = 1,
    deployment_key: Annotated[
        list[str] | None, typer.Option("--deployment-key", help="A hub's public key (hexadecimal, or its file).")
    ] = None,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Leave the private keys unencrypted: demos and CI only.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the keys and an empty repository. Keep root and targets keys offline; see docs/security.md."""
    from edgesdk.canonical import sha256_hex  # noqa: PLC0415 - `edge --help` stays quick
    from edgesdk.trust.keys import ask_passphrase  # noqa: PLC0415
    from edgesdk.trust.repository import first_root, init_repository  # noqa: PLC0415

    folder = keys or _default_keys(repo)
    public = [_public_key(text) for text in deployment_key or []]
    if no_passphrase:
        typer.echo(f"warning: the private keys in {folder} are not encrypted; use that for demos and CI only", err=True)
    passphrase = None if no_passphrase else ask_passphrase(confirm=True)
    done = init_repository(repo, folder, passphrase=passphrase, threshold=threshold, deployment_keys=public)
    pinned = sha256_hex(first_root(repo))
    _show(done, as_json, f"made {repo}; keys are in {folder}", keys=str(folder), root_sha256=pinned)


@app.command()
def publish(
    release_dir: Annotated[Path, typer.Argument(metavar="RELEASE_DIR", help="What `edge convert -o` made.")],
    repo: RepoOption,
    keys: KeysOption = [],  # noqa: B006 - Typer copies it
    as_json: JsonOption = False,
) -> None:
    """Publish a release. A published release never changes."""
    from edgesdk.bundle.release import load_release  # noqa: PLC0415
    from edgesdk.trust.repository import publish_release  # noqa: PLC0415

    load_release(release_dir)  # before anybody types a passphrase
    folders = _folders(repo, keys)
    done = publish_release(repo, folders, release_dir, passphrase=_passphrase(folders))
    _show(done, as_json, f"published {release_dir}" if done.changed else f"{release_dir} is published already")


@app.command()
def policy(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    repo: RepoOption,
    reason: Annotated[str, typer.Option(help="Why; signed and kept.")],
    anchor: Annotated[Path | None, typer.Option(help="Bundle whose truth set judges every release.")] = None,
    no_anchor: Annotated[bool, typer.Option("--no-anchor", help="Judge by no anchor set any more.")] = False,
    keys: KeysOption = [],  # noqa: B006 - Typer copies it
    as_json: JsonOption = False,
) -> None:
    """Set what judges every release of a model."""
    from edgesdk.errors import ConfigError  # noqa: PLC0415
    from edgesdk.trust.repository import publish_model_policy  # noqa: PLC0415

    if (anchor is None) != no_anchor:
        raise ConfigError("argument-invalid", "expected either --anchor FILE or --no-anchor")
    folders = _folders(repo, keys)
    done = publish_model_policy(repo, folders, model, anchor=anchor, reason=reason, passphrase=_passphrase(folders))
    _show(done, as_json, f"set the policy of {model}")


@app.command(name="deployment-keys")
def deployment_keys(
    public_keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Public keys: hexadecimal, or files.")],
    repo: RepoOption,
    threshold: Annotated[int, typer.Option(help="Keys that must sign a desired document.", min=1, max=8)] = 1,
    keys: KeysOption = [],  # noqa: B006 - Typer copies it
    as_json: JsonOption = False,
) -> None:
    """Name the keys whose desired documents devices obey; all others are out."""
    from edgesdk.trust.repository import set_deployment_keys  # noqa: PLC0415

    folders = _folders(repo, keys)
    public = [_public_key(text) for text in public_keys]
    done = set_deployment_keys(repo, folders, public, threshold=threshold, passphrase=_passphrase(folders))
    _show(done, as_json, "set the deployment keys" if done.changed else "these are the deployment keys already")


@app.command()
def rotate(
    roles: Annotated[list[str], typer.Argument(metavar="ROLE...", help="root, targets, snapshot or timestamp.")],
    repo: RepoOption,
    keys: KeysOption = [],  # noqa: B006 - Typer copies it
    as_json: JsonOption = False,
) -> None:
    """Replace the keys of roles by new ones; root signs that, so a lost old key of another role is not needed.

    Destroy the old key files afterwards, and take new online keys to the machine that refreshes.
    """
    from edgesdk.trust import repository  # noqa: PLC0415

    folders = _folders(repo, keys)
    parsed = [repository.parse_role(role) for role in roles]
    done = repository.rotate(repo, folders, parsed, passphrase=_passphrase(folders))
    _show(done, as_json, f"replaced the keys of {', '.join(roles)}")


@app.command()
def refresh(
    repo: RepoOption,
    role: Annotated[str, typer.Option(help="First role to sign anew: targets, snapshot or timestamp.")] = "snapshot",
    keys: KeysOption = [],  # noqa: B006 - Typer copies it
    as_json: JsonOption = False,
) -> None:
    """Sign metadata anew before it expires: run it at least daily where the online keys are."""
    from edgesdk.trust import repository  # noqa: PLC0415

    folders = _folders(repo, keys)
    done = repository.refresh(repo, folders, role=repository.parse_role(role), passphrase=_passphrase(folders))
    _show(done, as_json, f"signed {role} anew")


def _default_keys(repo: Path) -> Path:
    resolved = repo.resolve()
    return resolved.with_name(f"{resolved.name}-keys")


def _folders(repo: Path, keys: list[Path]) -> list[Path]:
    return keys or [_default_keys(repo)]


def _passphrase(folders: list[Path]) -> str | None:
    from edgesdk.trust.keyring import needs_passphrase  # noqa: PLC0415
    from edgesdk.trust.keys import ask_passphrase, passphrase_from  # noqa: PLC0415

    return ask_passphrase() if needs_passphrase(folders) else passphrase_from(os.environ)


def _public_key(text: str) -> PublicKey:
    """Read a public key: 64 hexadecimal characters, or a file with them or with ``{"keyid", "public"}``."""
    import msgspec  # noqa: PLC0415

    from edgesdk.errors import ConfigError, TrustError  # noqa: PLC0415
    from edgesdk.trust.keys import PublicKey, public_key  # noqa: PLC0415

    if re.fullmatch(r"[0-9a-f]{64}", text):
        return public_key(text)
    try:
        content = Path(text).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise ConfigError("file-missing", f"{text} is neither 64 hexadecimal characters nor a file") from None
    if not content.startswith("{"):
        return public_key(content)
    try:
        return msgspec.json.decode(content, type=PublicKey)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TrustError("key-invalid", f"{text} holds no public key: {error}") from error


def _show(done: Published, as_json: bool, said: str, **more: str) -> None:
    import msgspec  # noqa: PLC0415

    if as_json:
        typer.echo(msgspec.json.encode({**msgspec.to_builtins(done), **more}).decode())
        return
    typer.echo(said)
    for path in done.targets:
        typer.echo(f"  + {path}")
    for role, version in done.versions.items():
        typer.echo(f"  {role:<10} version {version:<4} expires {done.expires[role]}")
    for name, value in more.items():
        typer.echo(f"  {name}: {value}")
