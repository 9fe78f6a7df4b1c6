"""What administrators do with files: find, quarantine, protect, hold, delete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.read.numbers import newest_before
from homeserver.matrix.errors import NotFound
from homeserver.matrix.ids import RoomId, ServerName, UserId
from homeserver.matrix.mxc import Mxc, is_media_id
from homeserver.media import admin_store as store
from homeserver.media.admin_store import MediaInfo, UserUsage
from homeserver.media.keeping import Keeping
from homeserver.media.ports import Avatars
from homeserver.media.types import Origin, Unkept
from homeserver.storage.database import Database

BATCH: Final = 200
MOST: Final = 10_000
"""Files that one request deletes; who wants more repeats it."""
ROOM_EVENTS: Final = 20_000
"""Newest events of a room in which files are looked for."""
_NEWEST: Final = 2**62


class MediaAdmin:
    """Acts on rows; keeps nothing in memory."""

    def __init__(
        self,
        *,
        db: Database,
        interning: Interning,
        events: EventCache,
        keeping: Keeping,
        avatars: Avatars,
        server_name: ServerName,
    ) -> None:
        self._db = db
        self._interning = interning
        self._events = events
        self._keeping = keeping
        self._avatars = avatars
        self.server_name = server_name

    # --- finding -----------------------------------------------------------------------------------------------------

    async def info(self, mxc: Mxc) -> MediaInfo:
        """Raises `NotFound`."""
        async with self._db.read() as tx:
            found = await store.find(tx, mxc.server_name, mxc.media_id)
        if found is None:
            raise NotFound("There is no such file")
        return found

    async def list_of_user(
        self, user_id: UserId, order_by: str, *, descending: bool, start: int, limit: int
    ) -> tuple[list[MediaInfo], int]:
        """A page of somebody's files, and how many there are. Raises `NotFound`."""
        nid = await self._user(user_id)
        async with self._db.read() as tx:
            page = await store.list_of_user(
                tx, nid, order_by, descending=descending, start=start, limit=limit
            )
            return page, await store.count_of_user(tx, nid)

    async def largest_users(self, start: int, limit: int) -> list[tuple[UserId, UserUsage]]:
        """Whose files take most."""
        async with self._db.read() as tx:
            found = await store.list_largest_users(tx, start, limit)
        names = await self._interning.user_ids([each.user_nid for each in found])
        return [(names[each.user_nid], each) for each in found]

    async def in_room(self, room_id: RoomId) -> list[Mxc]:
        """Files that the newest events of a room name in the clear. Raises `NotFound`."""
        room = await self._interning.room(room_id)
        if room is None:
            raise NotFound("This server does not know this room")
        found: dict[Mxc, None] = {}
        before, looked_at = _NEWEST, 0
        while looked_at < ROOM_EVENTS:
            async with self._db.read() as tx:
                nids = await newest_before(tx, room.nid, before, BATCH)
            if not nids:
                break
            for persisted in (await self._events.load(nids)).values():
                found.update(dict.fromkeys(_named(persisted.event.content)))
            before, looked_at = nids[-1], looked_at + len(nids)
        return list(found)

    # --- quarantine, protection, hold --------------------------------------------------------------------------------

    async def quarantine(self, mxcs: list[Mxc], by: UserId) -> int:
        """How many files nobody is given any more."""
        async with self._db.transaction() as tx:
            return await store.quarantine(tx, [(each.server_name, each.media_id) for each in mxcs], by)

    async def quarantine_of_user(self, user_id: UserId, by: UserId) -> int:
        """Raises `NotFound`."""
        nid = await self._user(user_id)
        async with self._db.transaction() as tx:
            return await store.quarantine_of_user(tx, nid, by)

    async def release(self, mxc: Mxc) -> None:
        """Take a file out of quarantine. Raises `NotFound`."""
        await self.info(mxc)
        async with self._db.transaction() as tx:
            await store.release(tx, mxc.server_name, mxc.media_id)

    async def protect(self, mxc: Mxc, *, protected: bool) -> None:
        """From being quarantined. Raises `NotFound`."""
        async with self._db.transaction() as tx:
            changed = await store.set_protected(tx, mxc.server_name, mxc.media_id, protected=protected)
        _require(changed)

    async def hold(self, mxc: Mxc, *, held: bool) -> None:
        """A file stays whoever deletes it. Raises `NotFound`."""
        async with self._db.transaction() as tx:
            changed = await store.set_held(tx, mxc.server_name, mxc.media_id, held=held)
        _require(changed)

    # --- deleting ----------------------------------------------------------------------------------------------------

    async def delete(self, mxc: Mxc) -> list[Unkept]:
        """One file; nothing is deleted if it is held. Raises `NotFound`."""
        found = await self.info(mxc)
        return await self._keeping.remove([found.media_nid])

    async def delete_page_of_user(
        self, user_id: UserId, order_by: str, *, descending: bool, start: int, limit: int
    ) -> list[Unkept]:
        """What `list_of_user` lists."""
        page, _ = await self.list_of_user(user_id, order_by, descending=descending, start=start, limit=limit)
        return await self._keeping.remove([each.media_nid for each in page])

    async def delete_older(
        self, origin: Origin, before_ms: int, *, larger: int = -1, keep_avatars: bool = False
    ) -> list[Unkept]:
        """Files that nobody has looked at since, at most `MOST`; what is protected, quarantined or held stays."""

        async def page(after: int) -> list[MediaInfo]:
            async with self._db.read() as tx:
                return await store.find_older(tx, int(origin), before_ms, larger, (after, BATCH))

        return await self._delete_pages(page, keep_avatars=keep_avatars)

    async def _delete_pages(
        self, page: Callable[[int], Awaitable[list[MediaInfo]]], *, keep_avatars: bool
    ) -> list[Unkept]:
        gone: list[Unkept] = []
        after = 0
        while len(gone) < MOST and (found := await page(after)):
            after = found[-1].media_nid
            kept: set[str] = set()
            if keep_avatars:
                kept = await self._avatars.avatars_of(
                    {each.uploader_nid for each in found if each.uploader_nid}
                )
            gone += await self._keeping.remove(
                [
                    each.media_nid
                    for each in found
                    if str(Mxc(ServerName(each.server_name), each.media_id)) not in kept
                ]
            )
        return gone

    async def _user(self, user_id: UserId) -> int:
        found = await self._interning.find_user_nids([user_id])
        if user_id not in found:
            raise NotFound("There is no such user")
        return found[user_id]


def _require(changed: int) -> None:
    if not changed:
        raise NotFound("There is no such file")


def _named(content: Any) -> Iterator[Mxc]:
    """Files that an event names in the places where clients name them."""
    if not isinstance(content, dict):
        return
    places = [content]
    for key in ("info", "file", "m.new_content"):
        if isinstance(inner := content.get(key), dict):
            places += [inner, *(each for each in inner.values() if isinstance(each, dict))]
    for place in places:
        for key in ("url", "thumbnail_url", "avatar_url"):
            value = place.get(key)
            if isinstance(value, str) and value.startswith("mxc://"):
                server_name, _, media_id = value.removeprefix("mxc://").partition("/")
                if is_media_id(media_id):
                    yield Mxc(ServerName(server_name), media_id)
