"""Which addresses of users were told to which identity servers, and telling them.

spec: op:bind3PID, op:unbind3pidFromAccount, op:delete3pidFromAccount (CHECKLIST AUTH-31, IS-02, IS-03)
"""

from __future__ import annotations

from typing import Final, Literal

from homeserver.matrix.errors import ServerNotTrusted
from homeserver.matrix.ids import UserId
from homeserver.storage.database import Database
from homeserver.threepids import store
from homeserver.threepids.identity import IdentityServers, Session

Unbinding = Literal["success", "no-support"]
MAX_BOUND: Final = 100
"""Of a user, at all servers; further ones are bound, and not remembered."""


class Bindings:
    """Binds and unbinds. Keeps nothing in memory."""

    def __init__(self, db: Database, identity: IdentityServers) -> None:
        self._db = db
        self._identity = identity

    async def bind(self, user: tuple[int, UserId], id_server: str, token: str, session: Session) -> None:
        """`user`: user_nid and id. Raises `ServerNotTrusted`, what the identity server says, `Unavailable`."""
        user_nid, user_id = user
        host = self._identity.trusted(id_server)
        medium, address = await self._identity.bind(host, token, session, user_id)
        async with self._db.transaction() as tx:
            await store.insert_bound(tx, user_nid, medium, address, host, MAX_BOUND)

    async def unbind(
        self, user: tuple[int, UserId], medium: str, address: str, id_server: str | None
    ) -> Unbinding:
        """At the server that is named, or at those that it was bound to from here. Raises nothing for what they say."""
        user_nid, user_id = user
        async with self._db.read() as tx:
            bound = await store.find_bound(tx, user_nid)
        hosts = {each.id_server for each in bound if (each.medium, each.address) == (medium, address)}
        if id_server is not None:
            try:
                hosts = {self._identity.trusted(id_server)}
            except ServerNotTrusted:
                return "no-support"
        done = [host for host in hosts if await self._identity.unbind(host, user_id, medium, address)]
        if done:
            async with self._db.transaction() as tx:
                await store.delete_bound(tx, user_nid, medium, address, done)
        return "success" if done and len(done) == len(hosts) else "no-support"

    async def forget_user(self, user_nid: int, user_id: UserId) -> None:
        """The account has ended: what is bound is unbound, as far as identity servers do it. See `accounts.ports.ForgetUser`."""
        async with self._db.read() as tx:
            bound = await store.find_bound(tx, user_nid)
        for each in bound:
            await self.unbind((user_nid, user_id), each.medium, each.address, None)
        async with self._db.transaction() as tx:
            await store.delete_all_bound(tx, user_nid)
