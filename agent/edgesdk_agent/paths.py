"""Where everything of one agent lies: `store/` is read by apps, `state/` by nobody else."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgesdk.errors import ConfigError
from edgesdk.generation import evidence_socket
from edgesdk_agent.store.atomic import fsync_folder, make_folder


@dataclass(frozen=True, slots=True)
class Paths:
    """The folder of one agent (`root`, default ``/var/lib/edge-agent``) and what lies in it."""

    root: Path

    @property
    def store(self) -> Path:
        """Slots, generations and the evidence socket; apps read it."""
        return self.root / "store"

    @property
    def evidence_socket(self) -> Path:
        """The Unix datagram socket of `edgesdk.generation`."""
        return evidence_socket(self.store)

    @property
    def state(self) -> Path:
        """Everything private; mode 0700."""
        return self.root / "state"

    @property
    def state_db(self) -> Path:
        """Journal, statements and counters (synchronous=FULL)."""
        return self.state / "state.db"

    @property
    def telemetry_db(self) -> Path:
        """The outbox of telemetry; disposable."""
        return self.state / "telemetry.db"

    @property
    def keys(self) -> Path:
        """The TLS key and the statement key, 0600 each."""
        return self.state / "keys"

    @property
    def next_keys(self) -> Path:
        """Keys that are being rotated to; the certificate is written last and moved last."""
        return self.state / "keys.next"

    @property
    def tuf(self) -> Path:
        """Trusted metadata of the update client."""
        return self.state / "tuf"

    @property
    def downloads(self) -> Path:
        """Bundles that are being downloaded."""
        return self.state / "downloads"

    @property
    def staging(self) -> Path:
        """Bundles that are being unpacked, and anchor sets."""
        return self.state / "staging"

    @property
    def reserve(self) -> Path:
        """A file whose space is given up so that a rollback can be written to a full disk."""
        return self.state / "reserve"

    @property
    def device(self) -> Path:
        """The identity that enrolment gave (`edgesdk_agent.identity`)."""
        return self.state / "device.json"

    @property
    def status(self) -> Path:
        """What the running agent says of itself, for `edge-agent status`."""
        return self.state / "status.json"

    @property
    def lock(self) -> Path:
        """Locked by the one agent that uses this folder."""
        return self.state / "agent.lock"

    def make(self) -> None:
        """Create the folders: `store` 0755, `state` and all in it 0700; their names are durable then.

        Without that a power cut could take the whole of `state`, however well the files in it were synced.

        Raises:
            ConfigError: ``config-invalid`` if this user may not write there.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with suppress(PermissionError):  # the parent of `root` need not be ours to read
                fsync_folder(self.root.parent)
            for folder in (self.store, self.store / "models", self.store / "generations"):
                make_folder(folder)
            for folder in (self.state, self.keys, self.tuf, self.downloads, self.staging):
                make_folder(folder, mode=0o700)
            self.state.chmod(0o700)
        except (PermissionError, NotADirectoryError, FileExistsError) as error:
            raise ConfigError(
                "config-invalid",
                f"the agent's folder {self.root} cannot be used: {error.strerror}",
                hint="Run it as root or as the agent's user, or choose another folder with --root.",
            ) from error
