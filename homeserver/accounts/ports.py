"""What accounts need from features above them; each is plugged in by `wiring`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from homeserver.log.entries import Entry
from homeserver.matrix.ids import UserId
from homeserver.storage.tx import Pipeline, Tx
from homeserver.uia.service import Verified


class LeaveAllRooms(Protocol):
    """Fulfilled by rooms."""

    async def leave_all_rooms(self, user_id: UserId) -> None:
        """Leave every joined room and turn down every invite and knock. May be called again after a crash."""
        ...


class JoinFirstRooms(Protocol):
    """Fulfilled by rooms."""

    async def join_first_rooms(self, user_id: UserId) -> None:
        """Join the rooms every new account joins. May be called again after a crash."""
        ...


class AccountProfiles(Protocol):
    """Fulfilled by profiles."""

    def name_newcomer(self, batch: Pipeline, user_nid: int, displayname: str) -> None:
        """The name of an account that is being made. Nobody knows of it yet, so nobody has to be told."""
        ...

    def delete_profile(self, batch: Pipeline, user_nid: int) -> None:
        """In the transaction that ends an account."""
        ...

    def removal_entries(self, user_nid: int, user_id: UserId) -> Sequence[Entry]:
        """What is logged when a whole profile goes, with its account."""
        ...


class NotesRegistration(Protocol):
    """A feature that keeps something of what was proved at registration: the e-mail address."""

    async def note_registration(self, tx: Tx, user_nid: int, verified: Verified) -> None:
        """In the transaction that makes the account. What it raises is raised to the client, and no account made."""
        ...


class PasswordReset(Protocol):
    """How people prove who they are without a password; fulfilled by threepids."""

    @property
    def stage(self) -> str: ...

    async def user_of(self, proof: Verified) -> tuple[int, UserId]:
        """(user_nid, user id) of who has proved it, once. Raises a `MatrixError` for a proof that was used before."""
        ...


class ForgetUser(Protocol):
    """A feature that keeps data of a user that is no event: account data, filters, pushers, key backups."""

    async def forget_user(self, user_nid: int, user_id: UserId) -> None:
        """After a deactivation. May be called again after a crash."""
        ...
