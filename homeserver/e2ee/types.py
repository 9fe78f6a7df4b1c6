"""Keys and device lists as values."""

from __future__ import annotations

from typing import NamedTuple

MASTER, SELF_SIGNING, USER_SIGNING = 1, 2, 3
"""What cross-signing keys are for. spec: client-server-api/#cross-signing"""


class DeviceRow(NamedTuple):
    """Keys of a device, with its name."""

    user_nid: int
    device_id: str
    keys: bytes
    display_name: str | None


class SigningRow(NamedTuple):
    """A cross-signing key."""

    user_nid: int
    usage: int
    public_key: str
    key: bytes


class SignatureRow(NamedTuple):
    """A signature of a device or a cross-signing key."""

    target_nid: int
    target_key: str
    signer_nid: int
    signer_key: str
    signature: str


class ListRow(NamedTuple):
    """What is known of a user's list."""

    user_nid: int
    version: int
    fresh: bool
    stream_id: int | None
