"""Telling people that the server has reached a limit of its use, for as long as that is so: the notice is pinned meanwhile.

spec: client-server-api/#server-notices (CHECKLIST NOTICE-02)
"""

from __future__ import annotations

from typing import Final, Protocol

import structlog

from homeserver.matrix.errors import MatrixError
from homeserver.matrix.ids import EventId
from homeserver.notices import store
from homeserver.notices.service import ServerNotices
from homeserver.notices.types import Told
from homeserver.runtime.causes import Causes
from homeserver.storage.database import Database

_log = structlog.get_logger("atrium.notices")

EVERY: Final = 60.0
"""Seconds between looks at whether the limit is reached."""
AT_ONCE: Final = 100
"""People who are told, or told no longer, in one run."""
KIND: Final = "m.server_notice.usage_limit_reached"


class Usage(Protocol):
    """The limit. Times in ms since 1970."""

    @property
    def since_ms(self) -> int: ...
    async def is_reached(self) -> bool: ...


class UsageNotices:
    """Sends and unpins notices. Holds nothing in memory: a run goes on where the last one has ended."""

    def __init__(self, db: Database, notices: ServerNotices, usage: Usage, contact: str | None) -> None:
        """`contact`: the address of the administrator, as a URI."""
        self._db = db
        self._notices = notices
        self._usage = usage
        self._contact = contact
        self._causes = Causes(_log, "usage_notice_not_sent")

    async def tell(self) -> None:
        """Tell those who were here within the month, or unpin what they were told, some of them in each run."""
        if await self._usage.is_reached():
            async with self._db.read() as tx:
                untold = await store.find_untold(tx, self._usage.since_ms, AT_ONCE)
            for user_nid, user_id in untold:
                await self._pin(user_nid, user_id)
            return
        async with self._db.read() as tx:
            told = await store.find_told(tx, AT_ONCE)
        for each in told:
            await self._unpin(each)

    async def _pin(self, user_nid: int, user_id: str) -> None:
        async with self._db.transaction() as tx:
            if not await store.claim_telling(tx, user_nid):
                return
        try:
            event_id = await self._notices.pin(user_id, self._content())
        except MatrixError as error:  # one who cannot be told does not keep others from being told
            self._causes.tell(error)
            return
        async with self._db.transaction() as tx:
            await store.put_told(tx, user_nid, event_id)

    async def _unpin(self, told: Told) -> None:
        try:
            if told.event_id is not None:
                await self._notices.unpin(told.user_nid, EventId(told.event_id))
        except MatrixError as error:
            self._causes.tell(error)
        async with self._db.transaction() as tx:
            await store.delete_told(tx, told.user_nid)

    def _content(self) -> dict[str, str]:
        content = {
            "msgtype": "m.server_notice",
            "server_notice_type": KIND,
            "limit_type": "monthly_active_user",
            "body": "This server has as many people as it may have in a month. Until that changes nobody new can register,"
            " and who has not been here for a month cannot log in. You can go on as before.",
        }
        if self._contact is not None:
            content["admin_contact"] = self._contact
        return content
