"""Application services as requesters: their own user, or with `?user_id=` one of those they watch over.

spec: application-service-api/#identity-assertion
"""

from __future__ import annotations

from typing import Final

from homeserver.matrix.errors import Forbidden, UnknownDevice, UnknownToken
from homeserver.matrix.ids import DeviceId, UserId
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.sessions import store
from homeserver.sessions.ports import Appservice, Appservices
from homeserver.sessions.types import MasqueradeRow
from homeserver.storage.database import Database
from homeserver.web.auth import Requester
from homeserver.web.request import RequestInfo

LOGIN_TYPE: Final = "m.login.application_service"
"""What an application service says where a person would prove who they are. spec: #server-admin-style-permissions"""
SHARE = 0.5
REQUESTER_BYTES = 1_000
"""What a user that an application service acts as takes in the cache."""
_Mask = tuple[str, str | None, str | None]


class AppserviceSessions:
    """Remembers whom each application service acts as.

    The rights of an administrator are the person's: whoever acts in their name does not get them. Only an account that the
    application service made for itself can be an administrator's.
    """

    def __init__(self, db: Database, registry: Appservices, memory: MemoryBudget) -> None:
        self._db = db
        self._registry = registry
        self._masquerades: Cache[_Mask, Requester] = memory.cache("masquerades", SHARE)
        self._version = 0

    def forget(self, user_nid: int | None) -> None:
        """An account changed; None: anything may have. Rare enough to forget them all."""
        del user_nid
        self._version += 1
        self._masquerades.clear()

    def knows(self, token: str) -> bool:
        return self._registry.by_token(token) is not None

    def cached(self, token: str, info: RequestInfo) -> Requester | None:
        """From memory alone; None: ask `authenticate`."""
        appservice = self._registry.by_token(token)
        return None if appservice is None else self._masquerades.get(_masquerade_of(appservice, info))

    def is_current(self, requester: Requester) -> bool:
        """Whether nothing has changed since it was remembered whom the application service acts as."""
        service, device_id = requester.appservice_id or "", requester.device_id
        masks = ((service, requester.user_id, device_id), (service, None, device_id))
        return any(self._masquerades.get(masquerade) is requester for masquerade in masks)

    async def authenticate(self, token: str, info: RequestInfo) -> Requester:
        """Raises `Forbidden` for a user it may not be or who is not registered, `UnknownDevice` for a device."""
        appservice = self._registry.by_token(token)
        if appservice is None:
            raise UnknownToken("Unknown access token", soft_logout=False)
        masquerade, version = _masquerade_of(appservice, info), self._version
        _, user_id, device_id = masquerade
        acts_as = UserId(user_id) if user_id is not None else appservice.sender
        if not appservice.covers(acts_as):
            raise Forbidden("Application service cannot act as this user")
        account = await self._account(acts_as, device_id)
        requester = Requester(
            user_id=account.user_id,
            user_nid=account.user_nid,
            device_id=DeviceId(device_id) if device_id is not None else None,
            is_admin=account.is_admin and _is_its_own(appservice, account),
            appservice_id=appservice.id,
            suspended=account.suspended,
            locked=account.locked,
            named=user_id is not None,
            # spec: #registration `rate_limited`: "The sender is excluded" (CHECKLIST AS-14)
            rate_limited=appservice.rate_limited and account.user_id != appservice.sender,
        )
        if version == self._version:
            self._masquerades.put(masquerade, requester, REQUESTER_BYTES)
        return requester

    async def _account(self, user_id: UserId, device_id: str | None) -> MasqueradeRow:
        async with self._db.read() as tx:
            account = await store.find_masquerade(
                tx, user_id, DeviceId(device_id) if device_id is not None else None
            )
        if account is None:
            raise Forbidden("Application service has not registered this user")
        if not account.has_device:
            raise UnknownDevice("This user has no such device")
        return account


def _is_its_own(appservice: Appservice, account: MasqueradeRow) -> bool:
    """Whether the rights of an administrator were given to the application service, not to somebody it covers."""
    return account.user_id == appservice.sender and account.appservice_id == appservice.id


def _masquerade_of(appservice: Appservice, info: RequestInfo) -> _Mask:
    query = info.query_value
    return appservice.id, query("user_id"), query("device_id") or query("org.matrix.msc3202.device_id")
