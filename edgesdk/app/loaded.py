"""One generation, held and loaded: nothing can remove its files while this process runs it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from edgesdk.app.ledger import Ledger
from edgesdk.bundle.decode import GENERATION_NAME, decode_manifest
from edgesdk.bundle.layout import MANIFEST_NAME, MAX_MANIFEST_BYTES
from edgesdk.bundle.manifest import Manifest
from edgesdk.contract import same_major
from edgesdk.errors import ContractError, DeploymentError
from edgesdk.generation import Generation, decode_generation, generation_dir
from edgesdk.runtime.session import Session, open_session


class Hold:
    """An open generation folder with a shared lock on it; the agent removes a folder only under the exclusive lock.

    All files are read through the handle, so they are of one generation whatever happens to the store's names.

    Raises:
        DeploymentError: ``generation-missing`` if it is not there or is being removed.
    """

    def __init__(self, store: Path, generation: str) -> None:
        self._where = generation_dir(store, generation)
        try:
            self._handle = os.open(self._where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise DeploymentError("generation-missing", f"{self._where}: {error.strerror}") from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            raise DeploymentError("generation-missing", f"{self._where} is being removed") from error

    @property
    def path(self) -> Path:
        """A path to the folder that stays right when the folder is moved."""
        return Path(f"/proc/self/fd/{self._handle}")

    def read(self, name: str) -> bytes:
        """Return a small file of the folder.

        Raises:
            DeploymentError: ``generation-missing``.
        """
        try:
            with (self.path / name).open("rb") as file:
                return file.read(MAX_MANIFEST_BYTES + 1)
        except OSError as error:
            raise DeploymentError("generation-missing", f"{self._where / name}: {error.strerror}") from error

    def close(self) -> None:
        """Let the generation go."""
        os.close(self._handle)


class Loaded:
    """A generation that can be called.

    Attributes:
        record: What `generation.json` says.
        manifest: The bundle's manifest.
        session: The loaded artifact.
        ledger: What happened with it in this process.
    """

    def __init__(self, hold: Hold, record: Generation, manifest: Manifest, session: Session) -> None:
        self._hold = hold
        self.record, self.manifest, self.session = record, manifest, session
        self.renew()

    @property
    def generation(self) -> str:
        """Its identity."""
        return self.record.generation

    def renew(self) -> None:
        """Count from zero again: at the start, and in the child after a fork."""
        self.ledger = Ledger(self.record.policy.slow_ms)

    def close(self) -> None:
        """Free the artifact and let the folder go; nobody may call it any more."""
        self.session.close()
        self._hold.close()


def load_generation(store: Path, generation: str, contract: int | None, *, width: int = 1) -> Loaded:
    """Hold and load a generation for an app that asks for major version `contract` (None: any).

    It is made ready for `width` calls at once.

    Raises:
        DeploymentError: ``generation-missing``, ``store-corrupt`` or ``runtime-conflict``.
        ContractError: ``contract-major``.
        ReleaseError: ``artifact-unloadable`` or ``artifact-mismatch``.
        TargetError: ``runtime-missing`` or ``runtime-too-old``.
        ConfigError: ``config-invalid`` for the runtime's options.
    """
    hold = Hold(store, generation)
    try:
        record = decode_generation(hold.read(GENERATION_NAME), where=f"{generation}/{GENERATION_NAME}")
        if record.generation != generation:
            raise DeploymentError("store-corrupt", f"the folder of {generation} holds {record.generation}")  # noqa: TRY301 - the hold is let go in one place
        manifest = decode_manifest(hold.read(MANIFEST_NAME))
        if not same_major(contract, manifest.contract):
            message = f"the app asks for contract {contract}.x, {record.model} {record.release}"
            raise ContractError("contract-major", f"{message} has {manifest.contract.version}")  # noqa: TRY301 - as above
        session = open_session(hold.path, manifest, options=record.config.get("runtime"))
        session.prepare(width)
    except BaseException:
        hold.close()
        raise
    return Loaded(hold, record, manifest, session)
