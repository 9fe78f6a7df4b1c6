"""Signing JSON with ed25519, and checking such signatures.

spec: appendices/#signing-json, appendices/#checking-for-a-signature (CHECKLIST CRY-01, CRY-02)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, final

import nacl.bindings
import nacl.exceptions
from typing_extensions import override

from homeserver.matrix import base64, canonical_json
from homeserver.matrix.errors import InvalidSignature

ALGORITHM: Final = "ed25519"
SEED_BYTES: Final = 32
# spec: appendices/#signing-details: the version of a server's key
_VERSION: Final = re.compile(r"[a-zA-Z0-9_]+", re.ASCII)
_SIGNATURE_BYTES: Final = 64


@final
class SigningKey:
    """An ed25519 signing key and its name `ed25519:version`. Its `repr` shows no secret."""

    __slots__ = ("_secret", "key_id", "public_key", "seed", "version")

    def __init__(self, seed: bytes, version: str) -> None:
        """Make a key from its seed of 32 bytes.

        Raises:
            ValueError: wrong length, or a version outside `[a-zA-Z0-9_]+`.
        """
        if len(seed) != SEED_BYTES:
            raise ValueError(f"an ed25519 seed has {SEED_BYTES} bytes, not {len(seed)}")
        if not is_key_version(version):
            raise ValueError("a key version consists of letters, digits and underscores")
        self.seed = seed
        self.version = version
        self.key_id = f"{ALGORITHM}:{version}"
        self.public_key: bytes
        self._secret: bytes
        self.public_key, self._secret = nacl.bindings.crypto_sign_seed_keypair(seed)

    @classmethod
    def from_text(cls, text: str) -> SigningKey:
        """Read the first key of a signing key file. Raises `ValueError` saying what is wrong, without the secret."""
        return read_signing_keys(text)[0]

    def to_text(self) -> str:
        """The line of a signing key file, newline included: `ed25519 version seed`."""
        return f"{ALGORITHM} {self.version} {base64.encode(self.seed)}\n"

    def signature_of(self, data: bytes) -> str:
        """The signature of these very bytes, in unpadded Base64."""
        return base64.encode(nacl.bindings.crypto_sign(data, self._secret)[:_SIGNATURE_BYTES])

    @override
    def __repr__(self) -> str:
        return f"<SigningKey {self.key_id}>"


def is_key_version(value: str) -> bool:
    """The grammar of what follows `ed25519:` in a server's key id. spec: appendices/#signing-details"""
    return _VERSION.fullmatch(value) is not None


def read_signing_keys(text: str) -> list[SigningKey]:
    """Read a signing key file: one `algorithm version seed` a line, as other homeservers write it.

    Raises:
        ValueError: no key in it, or a line that is none; named by its number, never quoted.
    """
    keys: list[SigningKey] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 3 or words[0] != ALGORITHM:
            raise ValueError(f"line {number}: not `{ALGORITHM} version seed`")
        try:
            keys.append(SigningKey(base64.decode(words[2]), words[1]))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    if not keys:
        raise ValueError("no signing key in it")
    return keys


def sign_json(obj: Mapping[str, Any], server_name: str, key: SigningKey) -> dict[str, Any]:
    """A copy of a JSON object with this key's signature added under `signatures`; `unsigned` is kept, unsigned.

    Raises:
        ValueError: the object cannot be written as canonical JSON.
    """
    signatures = {entity: dict(by_key) for entity, by_key in obj.get("signatures", {}).items()}
    signatures.setdefault(server_name, {})[key.key_id] = key.signature_of(_signed_part(obj))
    return {**obj, "signatures": signatures}


def verify_json(obj: Mapping[str, Any], entity: str, key_id: str, public_key: bytes) -> None:
    """Check that `entity` signed the object with the key called `key_id`.

    Raises:
        InvalidSignature: no signature of that entity or key, an algorithm we do not know, text that is no
            signature, or one that does not match.
    """
    # spec: appendices/#checking-for-a-signature
    signature = signature_in(obj, entity, key_id)
    try:
        signed = _signed_part(obj)
    except ValueError:
        raise InvalidSignature("The signed object cannot be written as canonical JSON") from None
    verify_bytes(signed, signature, key_id, public_key)


def signature_in(obj: Mapping[str, Any], entity: str, key_id: str) -> str:
    """The text of one signature of an object. Raises `InvalidSignature` if it has none by that entity and key."""
    signatures = obj.get("signatures")
    by_key = signatures.get(entity) if isinstance(signatures, Mapping) else None
    signature = by_key.get(key_id) if isinstance(by_key, Mapping) else None
    if not isinstance(signature, str):
        raise InvalidSignature(f"No signature by {entity} with {key_id}")
    return signature


def verify_bytes(data: bytes, signature: str, key_id: str, public_key: bytes) -> None:
    """Check a signature of these very bytes. Raises `InvalidSignature`, as `verify_json` does."""
    if not key_id.startswith(f"{ALGORITHM}:"):
        raise InvalidSignature(f"{key_id} is not an {ALGORITHM} key")
    try:
        raw = base64.decode(signature)
    except ValueError:
        raise InvalidSignature(f"The signature with {key_id} is not Base64") from None
    if len(raw) != _SIGNATURE_BYTES or len(public_key) != nacl.bindings.crypto_sign_PUBLICKEYBYTES:
        raise InvalidSignature(f"The signature or the key {key_id} has the wrong length")
    try:
        nacl.bindings.crypto_sign_open(raw + data, public_key)
    except nacl.exceptions.BadSignatureError:
        raise InvalidSignature(f"The signature with {key_id} does not match") from None


def _signed_part(obj: Mapping[str, Any]) -> bytes:
    return canonical_json.encode({k: v for k, v in obj.items() if k not in {"signatures", "unsigned"}})
