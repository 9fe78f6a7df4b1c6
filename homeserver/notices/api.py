"""The endpoint by which administrators send notices, as Synapse's tools know it. spec: Synapse's admin API (server notices)"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeserver.matrix.ids import EventId
from homeserver.notices.service import ServerNotices
from homeserver.web.auth import AdminRequester
from homeserver.web.endpoint import Auth, Body, Path, endpoint

_PATH: Final = "/_synapse/admin/v1/send_server_notice"


class Notice(msgspec.Struct):
    """What is to be told, and to whom."""

    user_id: str
    content: dict[str, Any]
    type: str = "m.room.message"
    state_key: str | None = None


class Told(msgspec.Struct):
    """The event."""

    event_id: EventId


class ServerNoticesApi:
    """Sending notices."""

    def __init__(self, notices: ServerNotices) -> None:
        self._notices = notices

    @endpoint("adminSendServerNotice", "POST", _PATH, auth=Auth.ADMIN)
    async def send(self, admin: AdminRequester, body: Body[Notice]) -> Told:
        """Tells a user something."""
        del admin
        return await self._send(body, None)

    @endpoint("adminSendServerNoticeOnce", "PUT", _PATH + "/{txnId}", auth=Auth.ADMIN)
    async def send_once(self, admin: AdminRequester, txn_id: Path[str], body: Body[Notice]) -> Told:
        """Likewise, once under a transaction id of the administrator."""
        return await self._send(body, f"{admin.user_nid}/{txn_id}")

    async def _send(self, notice: Notice, txn_id: str | None) -> Told:
        event_id = await self._notices.send(
            notice.user_id, notice.type, notice.state_key, notice.content, txn_id
        )
        return Told(event_id)
