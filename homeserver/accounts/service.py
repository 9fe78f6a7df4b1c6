"""Accounts that exist: finding them, changing their password, flags and end.

spec: client-server-api/#account-management, #account-locking, #account-suspension
"""

from __future__ import annotations

from homeserver.accounts import store
from homeserver.accounts.passwords import Passwords
from homeserver.accounts.types import Account, OwnRate
from homeserver.devices.service import DeviceService
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import Forbidden, InvalidParam, NotFound
from homeserver.matrix.ids import DeviceId, ServerName, UserId, domain_of
from homeserver.sessions.entries import SessionsChanged
from homeserver.sessions.login_tokens import end_login_tokens
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline
from homeserver.web.auth import AdminRequester


class AccountService:
    """Local accounts."""

    def __init__(
        self,
        *,
        db: Database,
        log: LogWriter,
        server_name: ServerName,
        passwords: Passwords,
        devices: DeviceService,
    ) -> None:
        self._db = db
        self._log = log
        self._server_name = server_name
        self._passwords = passwords
        self._devices = devices

    def is_local(self, user_id: str) -> bool:
        return domain_of(user_id) == self._server_name

    async def find(self, user_id: UserId) -> Account | None:
        """Also a deactivated one; None for remote users and those that do not exist."""
        async with self._db.read() as tx:
            return await store.find_account(tx, user_id)

    async def get(self, user_nid: int) -> Account:
        """Raises `NotFound`."""
        async with self._db.read() as tx:
            account = await store.get_account(tx, user_nid)
        if account is None:
            raise NotFound("User not found")
        return account

    async def is_local_account(self, user_id: UserId) -> bool:
        """Whether the user exists here and has not ended."""
        account = await self.find(user_id) if self.is_local(user_id) else None
        return account is not None and not account.deactivated

    async def list_after(self, after: UserId, limit: int) -> list[Account]:
        """A page of accounts in the order of their user ids."""
        async with self._db.read() as tx:
            return await store.list_accounts(tx, after, limit)

    async def change_password(
        self, user_nid: int, user_id: UserId, password: str, *, keep: DeviceId | None, logout_devices: bool
    ) -> None:
        """Set a new password; end all devices but `keep` if asked to (CHECKLIST AUTH-28).

        Raises:
            WeakPassword, InvalidParam: it is not good enough.
        """
        self._passwords.check_strength(password)
        hashed = await self._passwords.hash(password)

        def write(batch: Pipeline) -> None:
            store.set_password(batch, user_nid, hashed)
            if logout_devices:
                store.delete_openid_tokens(batch, user_nid)
                end_login_tokens(batch, user_nid)

        if logout_devices:
            await self._devices.delete_all(user_nid, user_id, but=keep, also=write)
        else:
            async with self._db.transaction() as tx, tx.pipeline(commit=True) as batch:
                write(batch)

    async def set_flags(
        self,
        user_nid: int,
        *,
        locked: bool | None = None,
        suspended: bool | None = None,
        is_admin: bool | None = None,
    ) -> None:
        """Every process knows when this returns, or a moment later. None leaves as it is."""

        def write(batch: Pipeline, _written: object) -> None:
            store.set_flags(batch, user_nid, locked=locked, suspended=suspended, is_admin=is_admin)

        await self._log.append(SessionsChanged(user_nid), alongside=write)

    async def own_rate(self, user_nid: int) -> OwnRate | None:
        """The rate that an administrator has given the user; None: that of everybody."""
        async with self._db.read() as tx:
            row = await store.find_own_rate(tx, user_nid)
        if row is None or (row[0] and row[1] is None):
            return None
        return OwnRate(row[1] or 0, row[2] or 0) if row[0] else OwnRate(0, 0)

    async def set_own_rate(self, user_nid: int, rate: OwnRate | None) -> None:
        """Every process knows when this returns, or a moment later."""
        limited = rate is None or rate.per_second > 0

        def write(batch: Pipeline, _written: object) -> None:
            store.set_own_rate(batch, user_nid, limited=limited, rate=rate if limited else None)

        await self._log.append(SessionsChanged(user_nid), alongside=write)

    async def to_moderate(self, admin: AdminRequester, user_id: str, *, change: bool) -> Account:
        """The account an administrator asks about or, with `change`, wants to lock or suspend (CHECKLIST ACC-04).

        Raises:
            InvalidParam: the user is not local.
            NotFound: there is no such account, or it has ended.
            Forbidden: it is the administrator's own (if it is to be changed), or another administrator's.
        """
        if not self.is_local(user_id):
            raise InvalidParam("User does not belong to the local server")
        if change and user_id == admin.user_id:
            raise Forbidden("You cannot do this to your own account")
        account = await self.find(UserId(user_id))
        if account is None or account.deactivated:
            raise NotFound("User not found")
        if account.is_admin and account.user_nid != admin.user_nid:
            raise Forbidden("This user is an administrator too")
        return account
