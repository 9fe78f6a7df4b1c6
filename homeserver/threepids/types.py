"""Addresses, and sessions in which one is proved."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from homeserver.matrix.ids import UserId

EMAIL: Final = "email"

Purpose = Literal["register", "add", "reset"]
"""What an address is proved for."""


class Threepid(NamedTuple):
    """An address of an account. Times in Unix ms."""

    medium: str
    address: str
    validated_ms: int
    added_ms: int


class ValidationRequest(NamedTuple):
    """A client's request for a mail with a link."""

    purpose: Purpose
    address: str
    """Canonical."""
    client_secret: str
    send_attempt: int
    next_link: str | None


class Unproved(NamedTuple):
    """A session in which nobody has followed a link yet."""

    address: str
    expires_ms: int


class Proof(NamedTuple):
    """A session in which the link was followed."""

    sid: str
    medium: str
    address: str
    validated_ms: int


class Confirmed(NamedTuple):
    """What following a link has led to."""

    purpose: Purpose
    address: str
    next_link: str | None


class Owner(NamedTuple):
    """The account an address belongs to."""

    user_nid: int
    user_id: UserId


class Bound(NamedTuple):
    """An address that an identity server was told to be a user's."""

    medium: str
    address: str
    id_server: str
