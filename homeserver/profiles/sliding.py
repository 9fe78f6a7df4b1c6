"""Profiles of users of this server in sliding sync, for clients that ask for them.

Of rooms that are new to the client, profiles as they are, of all members or of those it is shown; later what has changed of
anybody the reader shares a room with, the profiles of whoever comes into a room, and null for who shares none any longer.
Rooms that do not fit into an answer are told in the next one. Where the recent log does not reach back to the client's token,
all rooms are told anew.

Source: MSC4262, Sliding Sync Extension: Profile Updates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

import msgspec

from homeserver.graph.interning import Interning
from homeserver.graph.refs import BAN, JOIN, LEAVE
from homeserver.graph.rooms.cache import Rooms
from homeserver.matrix import json
from homeserver.matrix.ids import UserId, domain_of
from homeserver.profiles import store
from homeserver.profiles.stream import Change, concerns, latest, share
from homeserver.rooms.memberships import Memberships
from homeserver.storage.database import Database
from homeserver.sync.sliding.ports import ProfilesPage, WantedProfiles
from homeserver.sync.types import SyncRequest

MAX_USERS: Final = 1_000
"""Users told of in one answer, and changes that are looked at for it. Of a room with more members, the first."""
MAX_BYTES: Final = 2**20
"""Of profiles that are read for an answer; the last may be longer."""
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class SlidingProfiles:
    """Fulfils `ProfileUpdates` of sliding sync. Keeps nothing in memory."""

    def __init__(self, db: Database, rooms: Rooms, memberships: Memberships, interning: Interning) -> None:
        self._db = db
        self._rooms = rooms
        self._memberships = memberships
        self._interning = interning

    async def page(self, request: SyncRequest, wanted: WantedProfiles) -> ProfilesPage:
        """What is told as of `request.upto`. At most three queries; none where nothing has happened to profiles."""
        users: dict[str, bytes] = {}
        new, known = wanted.new, wanted.about - wanted.new
        changes = {} if request.recent is None else latest(request.recent)
        if request.since is not None and (request.recent is None or len(changes) > MAX_USERS):
            new, known, changes = wanted.about, frozenset[int](), {}
        whole = await self._shown(request, wanted.people)
        if request.recent is not None and known:
            come, gone = _moved(request, known)
            whole |= come
            await self._gone(request, gone - come, users)
        if wanted.begins:
            whole.add(request.requester.user_nid)
        await self._changed(request, changes, wanted.fields, users)
        later = await self._of_rooms(new, whole)
        await self._whole(sorted(whole)[:MAX_USERS], wanted.fields, users)
        return ProfilesPage(users, later)

    async def _shown(self, request: SyncRequest, people: Collection[UserId]) -> set[int]:
        """user_nids of local users among those whose members are shown."""
        server = domain_of(request.requester.user_id)
        local = [user_id for user_id in people if domain_of(user_id) == server][:MAX_USERS]
        if not local:
            return set()
        return set((await self._interning.find_user_nids(local)).values())

    async def _of_rooms(self, new: Collection[int], whole: set[int]) -> frozenset[int]:
        """Add members of rooms until there are enough; the rooms that are left."""
        left = sorted(new)
        if not left:
            return frozenset()
        rooms = await self._rooms.get_many(left)
        while left and len(whole) < MAX_USERS:
            room = rooms[left.pop(0)]
            whole.update(room.local_joined)
        return frozenset(left)

    async def _changed(
        self,
        request: SyncRequest,
        changes: Mapping[int, Change],
        fields: frozenset[str] | None,
        users: dict[str, bytes],
    ) -> None:
        await self._memberships.prepare(changes)
        for nid, change in changes.items():
            if not await concerns(request, self._memberships, nid, change):
                continue
            if change.removed:
                users[change.user_id] = b"null"
            elif update := _update(change.fields, fields):
                users[change.user_id] = update

    async def _gone(self, request: SyncRequest, nids: Collection[int], users: dict[str, bytes]) -> None:
        """Null for who shares no room any longer."""
        await self._memberships.prepare(nids)
        apart = [nid for nid in nids if not share(request, await self._memberships.of(nid), since=None)]
        for user_id in (await self._interning.user_ids(apart)).values() if apart else ():
            users[user_id] = b"null"

    async def _whole(self, nids: list[int], fields: frozenset[str] | None, users: dict[str, bytes]) -> None:
        """Profiles as they are, over what has changed of them."""
        if not nids:
            return
        async with self._db.read() as tx:
            found = await store.find_shown(tx, nids, MAX_BYTES)
        for _, user_id, encoded in found:
            if encoded is not None and (update := _update(_decode(encoded), fields)):
                users[user_id] = update


def _moved(request: SyncRequest, known: Collection[int]) -> tuple[set[int], set[int]]:
    """Local users who have come into rooms, or have changed there, and those who have left some."""
    come, gone = set[int](), set[int]()
    for nid, membership in _changes(request, known):
        if membership == JOIN:
            come.add(nid)
        elif membership in (LEAVE, BAN):
            gone.add(nid)
    me = {request.requester.user_nid}
    return set(sorted(come - me)[:MAX_USERS]), set(sorted(gone - me)[:MAX_USERS])


def _changes(request: SyncRequest, known: Collection[int]) -> Iterator[tuple[int, int | None]]:
    if request.recent is None:
        return
    for _, entry in request.recent.moving:
        if entry.persisted.room_nid in known:
            for change in entry.changes:
                if change.membership is not None and change.local and change.user_nid is not None:
                    yield change.user_nid, change.membership


def _update(found: Mapping[str, msgspec.Raw | bytes | None], fields: frozenset[str] | None) -> bytes | None:
    """JSON of what is told of a user; None: nothing of it is wanted."""
    updated, removed = list[bytes](), list[str]()
    for key in sorted(found if fields is None else fields & found.keys()):
        value = found[key]
        if value is None:
            removed.append(key)
        else:
            updated.append(b"%b:%b" % (json.dumps(key), bytes(value)))
    members = [b'"updated":{%b}' % b",".join(updated)] if updated else []
    if removed:
        members.append(b'"removed":' + json.dumps(removed))
    return b"{%b}" % b",".join(members) if members else None
