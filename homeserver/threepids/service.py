"""Addresses of accounts. Proving them is `validation.py`.

spec: client-server-api/#adding-account-administrative-contact-information (CHECKLIST AUTH-31)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from homeserver.matrix.errors import (
    InvalidParam,
    MatrixError,
    ResourceLimitExceeded,
    ThreepidAuthFailed,
    ThreepidInUse,
)
from homeserver.matrix.ids import UserId
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx
from homeserver.threepids import store
from homeserver.threepids.addresses import canonical_email
from homeserver.threepids.types import EMAIL, Owner, Proof, Threepid
from homeserver.uia.service import Verified

STAGE: Final = "m.login.email.identity"
Removed = Callable[[int, str], Awaitable[None]]
"""user_nid and canonical address; after the transaction."""
MAX_ADDRESSES: Final = 20
"""Of one account."""


class ThreepidService:
    """Stores addresses of accounts. Fulfils `auth.ports.ThreepidLookup`, `accounts.ports.ForgetUser`. Keeps nothing in memory."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._removed: list[Removed] = []

    def tell_of_removed(self, removed: Removed) -> None:
        """Who hears of addresses that are taken away."""
        self._removed.append(removed)

    async def find_user(self, medium: str, address: str) -> UserId | None:
        """The user an identifier means, however it is spelled."""
        if medium != EMAIL:
            return None
        try:
            owner = await self.owner(canonical_email(address))
        except InvalidParam:
            return None
        return None if owner is None else owner.user_id

    async def canonical_number(self, country: str, number: str) -> str | None:
        """There are no telephone numbers here."""
        del country, number
        return None

    async def owner(self, address: str) -> Owner | None:
        """Whose canonical e-mail address it is."""
        async with self._db.read() as tx:
            return await store.find_owner(tx, EMAIL, address)

    async def is_bound(self, user_nid: int, address: str) -> bool:
        """Whether a canonical e-mail address is a user's."""
        return any((each.medium, each.address) == (EMAIL, address) for each in await self.list_of(user_nid))

    async def list_of(self, user_nid: int) -> list[Threepid]:
        async with self._db.read() as tx:
            return await store.list_threepids(tx, user_nid)

    async def add(self, user_nid: int, proof: Proof) -> None:
        """Add a proved address, and use the proof up.

        Raises:
            ThreepidAuthFailed: the proof was used already.
            ThreepidInUse: the address is another account's.
            ResourceLimitExceeded: the account has too many.
        """
        async with self._db.transaction() as tx:
            await store.lock_user(tx, user_nid)
            await self._take(tx, user_nid, proof)
            if await store.count_threepids(tx, user_nid) > MAX_ADDRESSES:
                raise ResourceLimitExceeded(f"More than {MAX_ADDRESSES} addresses")

    async def note_registration(self, tx: Tx, user_nid: int, verified: Verified) -> None:
        """In the transaction that makes an account: the address that was proved for it is the account's.

        Raises as `add`.
        """
        proof = proof_in(verified)
        if proof is not None:
            await self._take(tx, user_nid, proof)

    @property
    def stage(self) -> str:
        """What proves who somebody is who forgot their password."""
        return STAGE

    async def user_of(self, proof: Verified) -> tuple[int, UserId]:
        """Use a proof up to set a new password; whose. Raises `ThreepidAuthFailed`."""
        owner = await self._use(proof_in(proof))
        return owner.user_nid, owner.user_id

    async def _use(self, proof: Proof | None) -> Owner:
        if proof is None:
            raise _used()
        async with self._db.transaction() as tx:
            used = await store.delete_session(tx, proof.sid)
            owner = await store.find_owner(tx, proof.medium, proof.address)
        if not used or owner is None:
            raise _used()
        return owner

    async def delete(self, user_nid: int, medium: str, address: str) -> None:
        """Take an address away; one that is not the user's is gone already."""
        try:
            canonical = canonical_email(address, where="address") if medium == EMAIL else address
        except InvalidParam:
            return
        async with self._db.transaction() as tx:
            await store.delete_threepid(tx, user_nid, medium, canonical)
        for removed in self._removed:
            await removed(user_nid, canonical)

    async def forget_user(self, user_nid: int, _user_id: UserId) -> None:
        """The account has ended: its addresses are free."""
        async with self._db.transaction() as tx:
            await store.delete_of_user(tx, user_nid)

    async def _take(self, tx: Tx, user_nid: int, proof: Proof) -> None:
        if not await store.delete_session(tx, proof.sid):
            raise _used()
        if not await store.insert_threepid(tx, user_nid, proof, self._clock.now_ms()):
            raise ThreepidInUse("This address belongs to another account")


def proof_in(verified: Verified) -> Proof | None:
    """What the stage has learned; None if it was no part of the flow."""
    remembered = verified.remembered.get(STAGE)
    return None if remembered is None else msgspec.json.decode(remembered, type=Proof)


def remember(proof: Proof) -> str:
    """For `proof_in`."""
    fields: list[Any] = list(proof)
    return msgspec.json.encode(fields).decode()


def _used() -> MatrixError:
    return ThreepidAuthFailed("This confirmation was used already, or has expired")
