"""Walking through the rooms under a room, page by page.

spec: client-server-api/#spaces, op:getSpaceHierarchy (CHECKLIST SPACE-01 to SPACE-05)
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from homeserver.directory.summaries import may_enter
from homeserver.graph.interning import Interning
from homeserver.graph.read.page_size import PAGE_BYTES
from homeserver.graph.refs import JOIN
from homeserver.matrix import json
from homeserver.matrix.errors import Forbidden, InvalidParam
from homeserver.matrix.ids import RoomId
from homeserver.rooms.memberships import Memberships
from homeserver.runtime.clock import Clock, Entropy
from homeserver.spaces import store, walk
from homeserver.spaces.children import in_order, read_child
from homeserver.spaces.local_rooms import CHILD_BYTES, LocalRooms, within_bounds
from homeserver.spaces.ports import RemoteSpaces
from homeserver.spaces.types import SPACE, Branch, Child, Options, SpaceRoom
from homeserver.spaces.walk import Step, Walk
from homeserver.storage.database import Database
from homeserver.web.auth import Requester

MAX_LIMIT: Final = 500
LOOKED_UP_AT_ONCE: Final = 100
"""Rooms that are loaded together."""
ASKED_AT_ONCE: Final = 8
"""Rooms that other servers are asked for at the same time, for one page."""
PATIENCE: Final = 8.0
"""Seconds in which other servers are asked for one page; what is found until then is told."""
KEPT_MS: Final = 30 * 60 * 1000
"""For so long a page can be asked for after the one before."""
MAX_KEPT: Final = 20
"""Pages of one user that can be gone on with."""
TOKEN_BYTES: Final = 18


class Page(NamedTuple):
    """A page of a hierarchy."""

    rooms: list[SpaceRoom]
    next_batch: str | None


class _Found(NamedTuple):
    """A room, with what is under it."""

    shown: SpaceRoom
    children: Sequence[Child]


class _Reader(NamedTuple):
    """Who looks: their memberships (JOIN … BAN) by room."""

    memberships: Mapping[RoomId, int]

    def sees(self, room: SpaceRoom) -> bool:
        return may_enter(room, self.memberships.get(room.room_id, 0), self._is_in)

    def _is_in(self, room_ids: Collection[RoomId]) -> bool:
        return any(self.memberships.get(room_id) == JOIN for room_id in room_ids)


class SpaceHierarchy:
    """Answers `/hierarchy`. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        rooms: LocalRooms,
        memberships: Memberships,
        interning: Interning,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._db = db
        self._rooms = rooms
        self._memberships = memberships
        self._interning = interning
        self._clock = clock
        self._entropy = entropy
        self._remote: RemoteSpaces | None = None

    def ask_with(self, remote: RemoteSpaces) -> None:
        """Who knows the rooms that are not here."""
        self._remote = remote

    async def first(self, requester: Requester, begun: Walk, limit: int) -> Page:
        """The first page, at most `limit` rooms. Raises `Forbidden` for a room that the reader may not see, or that nobody
        knows.
        """
        page = await self._page(requester, begun, limit)
        if not page.rooms:
            raise Forbidden("You are not allowed to view this room")
        return page

    async def next(
        self, requester: Requester, token: str, root: RoomId, options: Options, limit: int
    ) -> Page:
        """The page that `next_batch` led to; it may be asked for again. Raises `InvalidParam` for a token that is none of this
        room and these options, or has been forgotten.
        """
        try:
            name = bytes.fromhex(token)
        except ValueError:
            raise InvalidParam("from: not a token of this server") from None
        async with self._db.read() as tx:
            kept = await store.find_walk(tx, name, requester.user_nid, self._clock.now_ms() - KEPT_MS)
        if kept is None:
            raise InvalidParam("from: not a token of this server, or one that is too old")
        going = walk.decode(kept)
        if going.options != options or going.root != root:
            raise InvalidParam("suggested_only and max_depth cannot change between pages, nor can the room")
        return await self._page(requester, going, limit)

    async def clean(self) -> None:
        """Forget what nobody goes on with any more."""
        async with self._db.transaction() as tx:
            await store.delete_before(tx, self._clock.now_ms() - KEPT_MS)

    # --- inside --------------------------------------------------------------------------------------------------

    async def _page(self, requester: Requester, going: Walk, limit: int) -> Page:
        reader = await self._reader(requester)
        ends = self._clock.monotonic() + PATIENCE
        look_up = _LookUp(self._rooms, self._remote, going.options.suggested_only)
        rooms: list[SpaceRoom] = []
        size = 0
        while len(rooms) < limit and size < PAGE_BYTES:
            ahead = going.ahead(min(limit - len(rooms), LOOKED_UP_AT_ONCE))
            left = ends - self._clock.monotonic()
            if not ahead or (rooms and left <= 0):
                break
            if ahead[0].room_id not in look_up.found:
                await look_up.more(ahead, max(left, 0.0))
            step = going.take()
            found = look_up.found.get(step.room_id) if step is not None else None
            if step is None or found is None or not reader.sees(found.shown):
                continue
            rooms.append(found.shown)
            size += sum(len(bytes(child.state.content)) + CHILD_BYTES for child in found.children)
            going.descend(step, found.children)
        token = await self._keep(requester, going) if going.ahead(1) else None
        return Page(rooms, token)

    async def _reader(self, requester: Requester) -> _Reader:
        user = await self._memberships.of(requester.user_nid)
        names = await self._interning.rooms(user.rooms)
        return _Reader({name.room_id: user.rooms[nid].membership for nid, name in names.items()})

    async def _keep(self, requester: Requester, going: Walk) -> str:
        token, user = self._entropy.bytes(TOKEN_BYTES), requester.user_nid
        async with self._db.transaction() as tx, tx.pipeline(commit=True) as batch:
            store.insert_walk(batch, token, user, self._clock.now_ms(), walk.encode(going))
            store.delete_older(batch, user, MAX_KEPT)
        return token.hex()


class _LookUp:
    """Finds rooms for one page: here, and at other servers."""

    def __init__(self, rooms: LocalRooms, remote: RemoteSpaces | None, suggested_only: bool) -> None:
        self._rooms = rooms
        self._remote = remote
        self._suggested_only = suggested_only
        self.found: dict[RoomId, _Found | None] = {}
        """None: nobody knows it, or whoever knows it does not tell."""
        self._hints: dict[RoomId, SpaceRoom] = {}
        """What the server of a space has told of the rooms under it."""
        self._inaccessible: set[RoomId] = set()

    async def more(self, steps: Sequence[Step], seconds: float) -> None:
        """Look for these rooms; other servers have so long to answer."""
        wanted = [step for step in steps if step.room_id not in self.found]
        local = await self._rooms.find([step.room_id for step in wanted], suggested_only=self._suggested_only)
        asked: list[Step] = []
        for step in wanted:
            room = local.get(step.room_id)
            if room is not None:
                self.found[step.room_id] = _Found(room.shown, room.children)
            # spec: SPACE-04: what is known here counts, as long as somebody of ours is there to know it
            if (room is None or not room.room.local_joined) and self._worth_asking(step.room_id):
                asked.append(step)
        if self._remote is not None and asked and seconds > 0:
            await self._ask(self._remote, asked, seconds)
        for step in wanted:
            self.found.setdefault(step.room_id, self._hinted(step.room_id))

    def _worth_asking(self, room_id: RoomId) -> bool:
        hint = self._hints.get(room_id)
        return room_id not in self._inaccessible and (hint is None or hint.room_type == SPACE)

    async def _ask(self, remote: RemoteSpaces, steps: Sequence[Step], seconds: float) -> None:
        places = asyncio.Semaphore(ASKED_AT_ONCE)

        async def ask(step: Step) -> None:
            async with places:
                branch = await remote.fetch(step.room_id, step.via, suggested_only=self._suggested_only)
            if branch is not None and branch.room.room_id == step.room_id:
                self._learn(branch)

        tasks = [asyncio.create_task(ask(step)) for step in steps]
        try:
            await asyncio.wait(tasks, timeout=seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _learn(self, branch: Branch) -> None:
        self.found[branch.room.room_id] = self._told(branch.room)
        self._inaccessible.update(branch.inaccessible_children)
        for room in branch.children:
            self._hints.setdefault(room.room_id, room)

    def _hinted(self, room_id: RoomId) -> _Found | None:
        hint = self._hints.get(room_id)
        return self._told(hint) if hint is not None else None

    def _told(self, room: SpaceRoom) -> _Found:
        """A room as another server tells it: of its children those that count, in our order."""
        read = (read_child(state, json.loads(bytes(state.content))) for state in room.children_state)
        children = in_order(
            (child for child in read if child is not None), suggested_only=self._suggested_only
        )
        children = within_bounds(children) if room.room_type == SPACE else []
        fields = {name: getattr(room, name) for name in room.__struct_fields__}
        return _Found(SpaceRoom(**fields | {"children_state": [child.state for child in children]}), children)
