"""The file with the server's signing key: read, and made at the first start.

Whoever has the key can speak for this server, so the file is for its owner alone.
"""

from __future__ import annotations

import os
from pathlib import Path

from homeserver.matrix.signing import SEED_BYTES, SigningKey
from homeserver.runtime.clock import Entropy
from homeserver.storage import data_folder


class SigningKeyError(Exception):
    """The key file cannot be used; the message says why, without the key."""


def load(path: Path) -> SigningKey:
    """The key in a file.

    Raises:
        SigningKeyError: it cannot be read, or is none.
    """
    try:
        return SigningKey.from_text(path.read_text(encoding="ascii"))
    except OSError as error:
        raise SigningKeyError(f"The signing key {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SigningKeyError(f"The signing key {path} is none: {error}") from None


def load_or_create(path: Path, entropy: Entropy) -> SigningKey:
    """The key in a file, made first if there is no file.

    Raises:
        SigningKeyError: it can be neither read nor made.
    """
    if not path.exists():
        _create(path, SigningKey(entropy.bytes(SEED_BYTES), f"a_{entropy.letters(4)}"))
    return load(path)


def _create(path: Path, key: SigningKey) -> None:
    """Written aside and linked into place: another process at the same moment gets one and the same key."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        data_folder.make(path.parent)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key.to_text())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
        finally:
            aside.unlink()
    except OSError as error:
        raise SigningKeyError(f"The signing key {path} cannot be made: {error.strerror}") from None
