"""Users of other servers are invited into rooms of ours: their server agrees first, and signs.

spec: server-server-api/#inviting-to-a-room, op:sendInviteV2, op:sendInviteV1 (FED-25 to FED-27)
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from federation.handshakes.asking import V1, V2, for_client
from federation.handshakes.shown import shown_of
from federation.ports import Ask, Checked, Client, EventChecker, Partners, RemoteError, RemoteFault
from homeserver.events.auth_rules.signers import is_signed_by
from homeserver.events.event import Event
from homeserver.graph.event_cache import EventCache
from homeserver.graph.rooms.room import Room
from homeserver.matrix import json
from homeserver.matrix.errors import Forbidden, Unknown
from homeserver.matrix.ids import ServerName, domain_of

SECONDS: Final = 30.0
MAX_BYTES: Final = 1 << 20


class _Answer(msgspec.Struct):
    """spec: op:sendInviteV2."""

    event: dict[str, Any]


class Inviting:
    """Sends invites. Keeps nothing in memory."""

    def __init__(self, client: Client, checker: EventChecker, events: EventCache, partners: Partners) -> None:
        self._client = client
        self._checker = checker
        self._events = events
        self._partners = partners

    async def signed(self, invite: Event, room: Room) -> Event:
        """See `RemoteRooms.signed_invite`."""
        server = domain_of(str(invite.state_key))
        if not await self._partners.may_share(server, room.name.room_id):
            self._partners.refused(server, "invite", room.name.room_id)
            raise Forbidden(f"Users of {server} may not be invited into this room")
        shown = await shown_of(self._events, room, invite.sender)
        try:
            answer = await self._ask(server, invite, shown)
        except RemoteFault as fault:
            raise for_client(fault) from fault
        checked = (await self._checker.check([answer.event], invite.room_version))[0]
        if not isinstance(checked, Checked) or not _is_same(checked.event, invite):
            raise Unknown(f"{server} has given back another invite", status=502)
        if not is_signed_by(checked.event, server):
            raise Unknown(f"{server} has not signed the invite", status=502)
        self._partners.done(server, "inviting", room.name.room_id)
        return checked.event

    async def _ask(self, server: ServerName, invite: Event, shown: list[Event]) -> _Answer:
        state = b"[%b]" % b",".join(event.pdu for event in shown)
        body = b'{"event":%b,"invite_room_state":%b,"room_version":%b}' % (
            invite.pdu,
            state,
            json.dumps(invite.room_version.id),
        )
        try:
            answer: _Answer = await self._put(server, V2, invite, body, _Answer)
        except RemoteError as refused:
            # spec: op:sendInviteV2: "should retry using the v1 API as the server may be older"
            if refused.status not in (400, 404) or invite.room_version.hash_ids:
                raise
        else:
            return answer
        unsigned = b'{"invite_room_state":%b}' % state
        old = b'%b,"unsigned":%b}' % (invite.pdu[:-1], unsigned)
        first: tuple[int, _Answer] = await self._put(server, V1, invite, old, tuple[int, _Answer])
        return first[1]

    async def _put(
        self, server: ServerName, version: tuple[str, ...], invite: Event, body: bytes, answer: Any
    ) -> Any:
        ask = Ask(
            method="PUT",
            path=(*version, "invite", invite.room_id, invite.event_id),
            content=msgspec.Raw(body),
            timeout=SECONDS,
            max_bytes=MAX_BYTES,
            long_retry=False,
        )
        return await self._client.ask(server, ask, answer)


def _is_same(answered: Event, invite: Event) -> bool:
    """Whether it is the invite that was sent, but for signatures; what was added to it must not replace ours."""
    ours = {key: value for key, value in invite.fields.items() if key != "signatures"}
    theirs = {key: value for key, value in answered.fields.items() if key != "signatures"}
    return answered.event_id == invite.event_id and ours == theirs
