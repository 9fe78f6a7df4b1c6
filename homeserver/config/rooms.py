"""Rooms and the directories."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from homeserver.config.base import Duration, Section

RoomVersionId = Annotated[
    Literal["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"],
    BeforeValidator(
        lambda value: str(value) if isinstance(value, int) else value
    ),  # YAML reads 12 as a number
]


class DirectorySection(Section):
    """Who sees and fills the list of public rooms, and finds people."""

    publish: Literal["nobody", "admins", "members"] = "members"
    """Who may put a room into the list: nobody, admins (of this server), members (everybody with an account)."""

    read: Literal["nobody", "members", "everybody"] = "members"
    """Who may read the list: nobody, members (people with an account here), everybody (without logging in)."""

    read_over_federation: bool = False
    """Whether other servers may read the list."""

    user_search: Literal["nobody", "shared_rooms", "everybody"] = "everybody"
    """Whom a person finds: nobody, shared_rooms (with whom they share a room, or who is in one that anybody may join or
    read), everybody."""


class RoomsSection(Section):
    """Rooms."""

    default_version: RoomVersionId = "12"
    """The version of new rooms when a client does not say."""

    create: Literal["admins", "members"] = "members"
    """Who may make rooms."""

    alias_create: Literal["admins", "members"] = "members"
    """Who may give rooms addresses on this server."""

    directory: DirectorySection = DirectorySection()
    """Who sees and fills the list of public rooms, and finds people."""

    redacted_originals: Duration = Field(default=604800.0, ge=0)
    """How long what a redaction took away is kept, where nobody can read it, before it is destroyed. 0: it is destroyed at
    once."""

    forget_on_leave: bool = False
    """Whether leaving a room also forgets it, as if the person had asked for both."""
