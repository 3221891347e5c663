"""Our update client as a command, in the way that the public TUF conformance suite drives clients.

    python -m edgesdk.trust.conformance --metadata-dir DIR init ROOT
    python -m edgesdk.trust.conformance --metadata-dir DIR --metadata-url URL refresh
    python -m edgesdk.trust.conformance --metadata-dir DIR --metadata-url URL --target-dir DIR
                                        --target-base-url URL --target-name NAME... download

It adds nothing to `UpdateClient` and takes nothing from it. Exit code 0: done; 1: refused, with the error on stderr.
The protocol is described in the suite's CLIENT-CLI document (theupdateframework/tuf-conformance).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from edgesdk.clock import SystemClock
from edgesdk.durable import write_atomic
from edgesdk.errors import ConfigError, EdgeError
from edgesdk.trust.client import Places, UpdateClient

PINNED = "pinned_root"
"""The root of `init`, as a device keeps the one of its enrolment; no name of TUF metadata."""
MAX_TARGET = 1 << 30  # bytes


def main(words: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    asked = _parser().parse_args(words)
    try:
        if asked.command == "init":
            write_atomic(asked.metadata_dir / PINNED, asked.trusted_root)
            _client(asked)
        elif asked.command == "refresh":
            _client(asked).refresh()
        else:
            _download(asked)
    except (EdgeError, OSError) as error:
        told = error.to_dict() if isinstance(error, EdgeError) else {"message": str(error)}
        print(json.dumps({"error": told}), file=sys.stderr)  # noqa: T201 - the command's output
        return 1
    return 0


def _download(asked: argparse.Namespace) -> None:
    if not asked.target_name or asked.target_dir is None:
        raise ConfigError("argument-invalid", "download needs --target-name, --target-base-url and --target-dir")
    client = _client(asked)
    client.refresh()
    for name in asked.target_name:
        client.read_target(name, MAX_TARGET)  # verified, and kept in the target folder


def _client(asked: argparse.Namespace) -> UpdateClient:
    metadata: Path = asked.metadata_dir
    places = Places(
        metadata=metadata,
        targets=asked.target_dir or metadata / "targets",
        metadata_url=asked.metadata_url.rstrip("/"),
        targets_url=asked.target_base_url.rstrip("/"),
    )
    pinned = (metadata / PINNED).read_bytes()
    return UpdateClient(metadata, asked.metadata_url, trusted_root=pinned, now=SystemClock().now, places=places)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgesdk.trust.conformance", description=__doc__.partition("\n")[0])
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url", default="")
    parser.add_argument("--target-base-url", default="")
    parser.add_argument("--target-dir", type=Path)
    parser.add_argument("--target-name", action="append")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    return parser


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
