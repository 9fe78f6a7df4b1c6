"""Sessions of devices: opening one, exchanging its refresh token, and what its first use settles.

Owns the life of access and refresh tokens. Ending sessions is `homeserver.devices`: a session ends with its device.

spec: client-server-api/#refreshing-access-tokens, #soft-logout,
#relationship-between-access-tokens-and-devices
"""

from __future__ import annotations

from homeserver.config.auth import AuthSection
from homeserver.log.writer import LogWriter
from homeserver.matrix.errors import Forbidden, InvalidParam, UnknownToken, UserLocked
from homeserver.matrix.ids import DeviceId
from homeserver.runtime.clock import Clock, Entropy
from homeserver.sessions import store
from homeserver.sessions.entries import SessionsChanged
from homeserver.sessions.ports import (
    CrossSigningKeys,
    DehydratedDevices,
    NoCrossSigningKeys,
    NoDehydratedDevices,
)
from homeserver.sessions.tokens import ACCESS, MAX_TOKEN, REFRESH, digest_of, new_token
from homeserver.sessions.types import RefreshRow, SessionRequest, Tokens
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline, Tx

MAX_DEVICE_ID = 255
MAX_DISPLAY_NAME = 256
"""Characters of a device's name."""
KEPT_CHILDREN = 4
"""Answers to one and the same refresh token that are valid at once, until one of them is used."""


class _Made:
    """Tokens in clear and as rows."""

    __slots__ = ("tokens", "row")

    def __init__(self, tokens: Tokens, row: store.NewTokens) -> None:
        self.tokens = tokens
        self.row = row


class SessionService:
    """Gives out tokens."""

    def __init__(
        self,
        *,
        db: Database,
        log: LogWriter,
        clock: Clock,
        entropy: Entropy,
        config: AuthSection,
        cross_signing: CrossSigningKeys | None = None,
    ) -> None:
        self._db = db
        self._log = log
        self._clock = clock
        self._entropy = entropy
        self._config = config
        self._cross_signing = cross_signing or NoCrossSigningKeys()
        self._dehydrated: DehydratedDevices = NoDehydratedDevices()

    def never_open(self, dehydrated: DehydratedDevices) -> None:
        """Plug in the feature that knows devices nobody holds."""
        self._dehydrated = dehydrated

    async def open(self, user_nid: int, request: SessionRequest) -> Tokens:
        """Log a device of an existing account in. The device is made if it is new; else its older tokens end.

        Raises:
            Forbidden: the device id is a cross-signing key of the user (CHECKLIST AUTH-10) or a dehydrated device.
            InvalidParam: the device id is too long.
        """
        if request.device_id is None:
            async with self._db.transaction() as tx:
                return await self.open_new(tx, user_nid, request)
        device_id = check_device_id(request.device_id)
        if await self._cross_signing.is_key(user_nid, device_id):
            raise Forbidden("This device ID is the ID of a cross-signing key")
        if await self._dehydrated.is_dehydrated(user_nid, device_id):
            raise Forbidden("This device ID is the ID of the dehydrated device")
        made = self._make(user_nid, device_id, refreshable=request.refreshable)
        now_ms = self._clock.now_ms()

        def write(batch: Pipeline, _written: object) -> None:
            store.insert_device(batch, user_nid, device_id, name_of(request), now_ms)
            store.delete_device_tokens(batch, user_nid, device_id)
            store.insert_tokens(batch, made.row, now_ms)

        await self._log.append(SessionsChanged(user_nid, device_id), alongside=write)
        return made.tokens

    async def open_new(self, tx: Tx, user_nid: int, request: SessionRequest) -> Tokens:
        """Log a device that cannot exist yet in, as the last act of the transaction; see `open` for what is raised."""
        device_id = DeviceId(self._entropy.device_id())
        if request.device_id is not None:
            device_id = check_device_id(request.device_id)
        made = self._make(user_nid, device_id, refreshable=request.refreshable)
        now_ms = self._clock.now_ms()
        async with tx.pipeline(commit=True) as batch:
            store.insert_device(batch, user_nid, device_id, name_of(request), now_ms)
            store.insert_tokens(batch, made.row, now_ms)
        return made.tokens

    async def refresh(self, refresh_token: str) -> Tokens:
        """Exchange a refresh token. It stays valid until what is returned here is first used (CHECKLIST AUTH-18).

        Raises:
            UnknownToken: it is unknown, was exchanged and its successor used, or has expired.
            UserLocked: the account is locked.
        """
        digest = digest_of(refresh_token[:MAX_TOKEN])
        async with self._db.transaction() as tx:
            known = await store.find_refresh_token(tx, digest)
            if known is None or not await store.lock_device(tx, known.user_nid, known.device_id):
                raise UnknownToken("Unknown refresh token", soft_logout=False)
            # What was read before the lock may be out of date.
            known = self._check_refresh(await store.find_refresh_token(tx, digest))
            made = self._make(known.user_nid, known.device_id, refreshable=True, parent=known.refresh_nid)
            now_ms = self._clock.now_ms()
            async with tx.pipeline(commit=True) as batch:
                if known.parent_nid is not None:
                    use = (known.user_nid, known.device_id, known.refresh_nid, known.parent_nid)
                    store.settle_first_use(batch, use, now_ms)
                store.insert_tokens(batch, made.row, now_ms)
                store.delete_surplus_children(
                    batch, known.user_nid, known.device_id, known.refresh_nid, KEPT_CHILDREN
                )
        return made.tokens

    def _check_refresh(self, known: RefreshRow | None) -> RefreshRow:
        if known is None:
            raise UnknownToken("Unknown refresh token", soft_logout=False)
        if known.locked:
            raise UserLocked("This account is locked", soft_logout=True)
        if known.revoked:
            raise UnknownToken("This refresh token has been used already", soft_logout=True)
        if known.expires_ms is not None and self._clock.now_ms() >= known.expires_ms:
            raise UnknownToken("This refresh token has expired", soft_logout=True)
        return known

    def _make(
        self, user_nid: int, device_id: DeviceId, *, refreshable: bool, parent: int | None = None
    ) -> _Made:
        now_ms, config = self._clock.now_ms(), self._config
        access = new_token(self._entropy, ACCESS)
        refresh = new_token(self._entropy, REFRESH) if refreshable else None
        lifetime = in_ms(
            config.refreshable_access_token_lifetime if refreshable else config.access_token_lifetime
        )
        refresh_lifetime = in_ms(config.refresh_token_lifetime)
        row = store.NewTokens(
            user_nid=user_nid,
            device_id=device_id,
            access_hash=digest_of(access),
            access_expires_ms=None if lifetime is None else now_ms + lifetime,
            refresh_hash=digest_of(refresh) if refresh else None,
            refresh_expires_ms=now_ms + refresh_lifetime
            if refresh and refresh_lifetime is not None
            else None,
            parent_nid=parent,
        )
        return _Made(Tokens(access, device_id, refresh, lifetime), row)


def in_ms(seconds: float | None) -> int | None:
    """A configured duration in milliseconds."""
    return None if seconds is None else round(seconds * 1000)


def check_device_id(device_id: str) -> DeviceId:
    """Raises `InvalidParam` for one that no client should choose."""
    if not device_id or len(device_id) > MAX_DEVICE_ID or not device_id.isprintable():
        raise InvalidParam(f"device_id: 1 to {MAX_DEVICE_ID} printable characters")
    return DeviceId(device_id)


def name_of(request: SessionRequest) -> str | None:
    """The first characters of the name a device is to have."""
    return request.display_name[:MAX_DISPLAY_NAME] if request.display_name else None
