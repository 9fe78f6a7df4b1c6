"""Typing, receipts and presence of other servers' users. Of users who are not in a room nothing is shown there.

spec: server-server-api/#typing-notifications, #receipts, #presence (FED-29, FED-35, ACL-03)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from federation.inbound.acl import ServerAcls
from federation.inbound.edus import EduDispatcher, InvalidEdu
from federation.ports import Partners
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Member, Room
from homeserver.matrix.canonical_json import MAX_INTEGER
from homeserver.matrix.ids import RoomId, ServerName, UserId, domain_of, is_event_id, is_user_id
from homeserver.presence.types import Heard
from homeserver.receipts.types import RemoteReceipt

MAX_ROOMS: Final = 100
"""Rooms of one receipt EDU."""
MAX_RECEIPTS: Final = 500
MAX_PRESENCE: Final = 500
MAX_THREAD: Final = 255
PRESENCES: Final = frozenset({"online", "offline", "unavailable"})


class _Typing(Protocol):
    async def hear(self, room: Room, user_id: UserId, member: Member, *, typing: bool) -> None: ...


class _Receipts(Protocol):
    async def hear(self, room: Room, receipts: Sequence[RemoteReceipt]) -> None: ...


class _Presence(Protocol):
    async def hear(self, heard: Sequence[Heard]) -> None: ...


class Ephemeral:
    """Handlers of EDUs. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        rooms: Rooms,
        acls: ServerAcls,
        typing: _Typing,
        receipts: _Receipts,
        presence: _Presence | None,
        partners: Partners,
    ) -> None:
        """`presence` None: it is switched off."""
        self._partners = partners
        self._rooms = rooms
        self._acls = acls
        self._typing = typing
        self._receipts = receipts
        self._presence = presence

    def register(self, edus: EduDispatcher) -> None:
        """Say what is handled here."""
        edus.register("m.typing", self.typing)
        edus.register("m.receipt", self.receipts)
        edus.register("m.presence", self.presence)

    async def typing(self, origin: ServerName, content: Mapping[str, Any]) -> None:
        """See `EduHandler`."""
        user_id, typing = content.get("user_id"), content.get("typing")
        if not isinstance(typing, bool):
            raise InvalidEdu("typing: neither true nor false")
        user_id = _user_of(origin, user_id)
        room = await self._room(origin, content.get("room_id"))
        member = room.members.get(user_id) if room is not None else None
        if room is not None and member is not None and member.membership == JOIN:
            await self._typing.hear(room, user_id, member, typing=typing)

    async def receipts(self, origin: ServerName, content: Mapping[str, Any]) -> None:
        """See `EduHandler`."""
        if len(content) > MAX_ROOMS:
            raise InvalidEdu(f"receipts of more than {MAX_ROOMS} rooms")
        left = MAX_RECEIPTS
        for room_id, kinds in content.items():
            users = kinds.get("m.read") if isinstance(kinds, Mapping) else None
            if not isinstance(users, Mapping):
                continue
            left -= len(users)
            if left < 0:
                raise InvalidEdu(f"more than {MAX_RECEIPTS} receipts")
            room = await self._room(origin, room_id)
            if room is not None and (found := [*_receipts(origin, room, users)]):
                await self._receipts.hear(room, found)

    async def presence(self, origin: ServerName, content: Mapping[str, Any]) -> None:
        """See `EduHandler`. Of users who are in no room here nothing is kept."""
        if self._presence is None:
            return
        if not self._partners.hears_presence(origin):
            self._partners.refused(origin, "presence")
            return
        self._partners.done(origin, "presence_heard")
        push = content.get("push")
        if not isinstance(push, list) or len(push) > MAX_PRESENCE:
            raise InvalidEdu(f"push: no list of at most {MAX_PRESENCE}")
        heard = {each.user_id: each for item in push if (each := _presence_of(origin, item)) is not None}
        if heard:
            await self._presence.hear([*heard.values()])

    async def _room(self, origin: ServerName, room_id: object) -> Room | None:
        """A room that somebody here is in, and the origin may speak in."""
        if not isinstance(room_id, str):
            return None
        room = await self._rooms.by_id(RoomId(room_id))
        if room is None or not room.local_joined or not await self._acls.allows(room, origin):
            return None
        return room


def _user_of(origin: ServerName, user_id: object) -> UserId:
    """Raises `InvalidEdu` for who is not the origin's."""
    if not isinstance(user_id, str) or not is_user_id(user_id) or domain_of(user_id) != origin:
        raise InvalidEdu("a user of another server")
    return UserId(user_id)


def _receipts(origin: ServerName, room: Room, users: Mapping[str, Any]) -> Iterator[RemoteReceipt]:
    """The receipts of those who are in the room; what is malformed is left out."""
    for name, said in users.items():
        member = room.members.get(UserId(name))
        if member is None or member.membership != JOIN or domain_of(name) != origin:
            continue
        if not isinstance(said, Mapping):
            continue
        event_ids, data = said.get("event_ids"), said.get("data")
        if not isinstance(event_ids, list) or not isinstance(data, Mapping):
            continue
        event_id, thread, ts = next(iter(event_ids), None), data.get("thread_id"), data.get("ts")
        if not isinstance(event_id, str) or not is_event_id(event_id) or type(ts) is not int:
            continue
        if thread is not None and not (isinstance(thread, str) and 0 < len(thread) <= MAX_THREAD):
            continue
        yield RemoteReceipt(UserId(name), member.user_nid, event_id, thread, ts)


def _presence_of(origin: ServerName, item: object) -> Heard | None:
    """None for what is malformed, or of another server's user."""
    if not isinstance(item, Mapping):
        return None
    user_id, presence, ago = item.get("user_id"), item.get("presence"), item.get("last_active_ago", 0)
    if not isinstance(user_id, str) or not is_user_id(user_id) or domain_of(user_id) != origin:
        return None
    if presence not in PRESENCES or type(ago) is not int or not 0 <= ago <= MAX_INTEGER:
        return None
    status = item.get("status_msg")
    usable = isinstance(status, str) and "\0" not in status
    return Heard(UserId(user_id), presence, status if usable else None, ago)
