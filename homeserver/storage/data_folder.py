"""The folder in which a server keeps what is its own: made for its owner alone.

Database, signing key and configuration in it are closed to others by themselves; the folder closes what somebody may put
there next, and what it is called.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from homeserver.storage.errors import StorageError

_OURS = frozenset(
    {
        "atrium.lock",
        "config.yaml",
        "postgres",
        "postgres.log",
        "postgres.log.1",
        "run",
        "media",
        "signing.key",
        "lost+found",
    }
)


def make(folder: Path) -> None:
    """Make the folder with mode 0700, whatever the umask; one that exists is left as it is. Raises `OSError`."""
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        return
    folder.chmod(0o700)


def settle(folder: Path) -> None:
    """Make a server's own folder; close an existing one to others if it holds nothing but what a server puts there.

    One that was opened to a group alone (0750), or in which other things lie too (somebody's home), is left as it is.
    Raises `StorageError`.
    """
    try:
        make(folder)
        if folder.stat().st_uid == os.geteuid() and open_to_others(folder) and only_ours(folder):
            folder.chmod(0o700)
    except OSError as error:
        raise StorageError(f"The data directory {folder} cannot be used: {error.strerror}") from error


def open_to_others(folder: Path) -> bool:
    """Whether everybody on this machine may look into it, or pass through it by guessing names."""
    return bool(folder.stat().st_mode & stat.S_IRWXO)


def only_ours(folder: Path) -> bool:
    """Whether everything in it was put there by a server."""
    return all(entry.name in _OURS or entry.name.startswith("postgres.new") for entry in folder.iterdir())
