"""The file with the server's signing key: read, and made at the first start.

Whoever has the key can speak for this server, so the file is for its owner alone.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

import nacl.exceptions
import nacl.secret

from homeserver.matrix.signing import SEED_BYTES, SigningKey
from homeserver.runtime.clock import Entropy
from homeserver.storage import data_folder

_NONCE: Final = nacl.secret.SecretBox.NONCE_SIZE


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


def replace(path: Path, key: SigningKey) -> None:
    """Write another key in the place of the one in a file. Raises `SigningKeyError`; then the old one is there."""
    try:
        _write_aside(path, key).replace(path)
    except OSError as error:
        raise SigningKeyError(f"The signing key {path} cannot be replaced: {error.strerror}") from None


def seal(new: SigningKey, old: SigningKey, entropy: Entropy) -> bytes:
    """The new key, readable for those alone who have the old one."""
    return nacl.secret.SecretBox(_sealing(old)).encrypt(new.to_text().encode(), entropy.bytes(_NONCE))


def unseal(sealed: bytes, old: SigningKey) -> SigningKey:
    """What `seal` has sealed. Raises `SigningKeyError` if it was sealed with another key."""
    try:
        return SigningKey.from_text(nacl.secret.SecretBox(_sealing(old)).decrypt(sealed).decode())
    except (nacl.exceptions.CryptoError, ValueError):
        raise SigningKeyError(f"What should come after the key {old.key_id} cannot be read with it") from None


def _sealing(key: SigningKey) -> bytes:
    return hashlib.blake2b(key.seed, digest_size=32, person=b"atrium.next.key.").digest()


def _create(path: Path, key: SigningKey) -> None:
    """Written aside and linked into place: another process at the same moment gets one and the same key."""
    try:
        aside = _write_aside(path, key)
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
        finally:
            aside.unlink()
    except OSError as error:
        raise SigningKeyError(f"The signing key {path} cannot be made: {error.strerror}") from None


def _write_aside(path: Path, key: SigningKey) -> Path:
    """A file beside it, for its owner alone, on the disk. Raises `OSError`."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    data_folder.make(path.parent)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key.to_text())
        file.flush()
        os.fsync(file.fileno())
    return aside
