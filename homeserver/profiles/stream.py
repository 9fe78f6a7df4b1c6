"""Profiles of users of this server in `/sync`, for clients that ask for fields of them.

The first answer has the fields as they are; later ones what has changed since, and the fields of whoever has come into a
room with the reader. A field that is not set is null, but in the first answer, which leaves it out. What does not fit into
an answer is told in the next ones: their tokens say after which user, in the order of user_nids. Where the recent log does
not reach back to the client's token, everything is told as it is now.

Source: MSC4429, Profile Updates for Legacy Sync.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from homeserver.graph.entry import EventEntry
from homeserver.graph.refs import JOIN, LEAVE
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Entry, Position
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.profiles import store
from homeserver.profiles.entries import ProfileChanged
from homeserver.rooms.memberships import Memberships, UserRooms
from homeserver.storage.database import Database
from homeserver.sync.log_slice import LogSlice
from homeserver.sync.types import NO_NEWS, JoinedRooms, Part, Recipients, SyncRequest

MAX_USERS = 1_000
"""Users told of in one answer, and changes of profiles that are looked at for it."""
MAX_BYTES = 2**20
"""Of profiles that are read for an answer, and of what it says of them; the last may be longer."""
MAX_MEMBERS = 10_000
"""Members of new rooms that are looked at one by one; of more, everybody near the reader is told anew."""
UNSTABLE: Final = "org.matrix.msc4429.users"
_NULL: Final = b"null"
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(slots=True)
class Change:
    """What has become of a profile in a slice of the log."""

    user_id: str
    fields: dict[str, bytes | None] = field(default_factory=dict)
    """Field -> JSON of its value; None: removed."""
    removed: bool = False
    """The whole profile, before what `fields` says."""


class _Answer:
    """What is told, until it is full."""

    def __init__(self, wanted: frozenset[str]) -> None:
        self.wanted = wanted
        self._users: dict[str, bytes] = {}
        self._size = 0

    @property
    def full(self) -> bool:
        return len(self._users) >= MAX_USERS or self._size >= MAX_BYTES

    def tell(self, user_id: str, fields: Mapping[str, bytes]) -> None:
        """Nothing, if there are no fields."""
        if fields:
            updates = b",".join(b"%b:%b" % (json.dumps(key), value) for key, value in fields.items())
            self._users[user_id] = b'{"profile_updates":{%b}}' % updates
            self._size += len(updates)

    @property
    def part(self) -> Part:
        if not self._users:
            return Part()
        users = b",".join(b"%b:%b" % (json.dumps(user_id), value) for user_id, value in self._users.items())
        return Part(top={UNSTABLE: b"{%b}" % users})


class ProfileStream:
    """The profile stream of `/sync`. Costs nothing where the filter asks for no fields."""

    always_asked = False

    def __init__(self, db: Database, memberships: Memberships) -> None:
        self._db = db
        self._memberships = memberships

    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        def of(entry: ProfileChanged) -> Recipients:
            user = self._memberships.cached(entry.user_nid)
            if user is None:  # we do not know in which rooms they are; each looks for themselves
                return Recipients(everybody=True)
            return Recipients((entry.user_nid,), None, user.joined)

        # Of events: who comes into a room comes into sight. The stream of rooms says whom they concern.
        return {ProfileChanged: of, EventEntry: lambda _: Recipients()}

    async def changes(self, request: SyncRequest, rooms: JoinedRooms) -> Part:
        if request.filter.profile_fields is None or not request.filter.profile_fields.ids:
            return NO_NEWS
        answer = _Answer(frozenset(request.filter.profile_fields.ids))
        after, rest = request.profiles, None
        if request.recent is not None:
            rest = await self._changed(request, request.recent, answer)
        met = _come_into_sight(request, rooms)
        if met is None:
            after = 0
        elif met:
            rest = _earlier(rest, await self._whole(answer, met, nulls=True))
        if after is not None:
            rest = _earlier(rest, await self._everybody(request, answer, after))
        part = answer.part
        part.profiles = rest
        return NO_NEWS if rest is None and not part.top else part

    async def _changed(self, request: SyncRequest, recent: LogSlice, answer: _Answer) -> int | None:
        """Tell what the log says. Like the others: after which user there is more to tell; None: that is all."""
        changes = latest(recent)
        nids = sorted(
            nid for nid, each in changes.items() if each.removed or not answer.wanted.isdisjoint(each.fields)
        )
        await self._memberships.prepare(nids[:MAX_USERS])
        for number, nid in enumerate(nids):
            if number == MAX_USERS or answer.full:
                return nid - 1
            change = changes[nid]
            if not await concerns(request, self._memberships, nid, change):
                continue
            keys = answer.wanted if change.removed else answer.wanted & change.fields.keys()
            answer.tell(change.user_id, {key: change.fields.get(key) or _NULL for key in sorted(keys)})
        return None

    async def _whole(self, answer: _Answer, user_nids: Collection[int], *, nulls: bool) -> int | None:
        """Tell the fields of users as they are."""
        nids = sorted(user_nids)
        if answer.full:
            return nids[0] - 1
        async with self._db.read() as tx:
            found = await store.find_shown(tx, nids[:MAX_USERS], MAX_BYTES)
        for nid, user_id, encoded in found:
            if encoded is None or answer.full:
                return nid - 1
            fields = _decode(encoded)
            told = {key: bytes(fields[key]) if key in fields else _NULL for key in sorted(answer.wanted)}
            answer.tell(user_id, told if nulls else {k: v for k, v in told.items() if k in fields})
        return nids[MAX_USERS - 1] if len(nids) > MAX_USERS else None

    async def _everybody(self, request: SyncRequest, answer: _Answer, after: int) -> int | None:
        """Tell the fields of the reader, and of the users they share a room with, after that one."""
        if answer.full:
            return after
        async with self._db.read() as tx:
            nids = await store.find_near(tx, request.requester.user_nid, request.joined, after, MAX_USERS + 1)
        return await self._whole(answer, nids, nulls=request.since is not None) if nids else None


def _earlier(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


async def concerns(request: SyncRequest, memberships: Memberships, user_nid: int, change: Change) -> bool:
    """Whether a change of a user's profile is for the reader to know."""
    if user_nid == request.requester.user_nid:
        return True
    theirs = await memberships.of(user_nid)
    return share(request, theirs, since=request.since if change.removed else None)


def share(request: SyncRequest, theirs: UserRooms, *, since: Position | None) -> bool:
    """Whether the reader shares a room with a user; with one who has ended, also whether they did, after `since`."""
    if not request.joined.isdisjoint(theirs.joined):
        return True
    return since is not None and any(
        own.membership == LEAVE and own.position > since and nid in request.joined
        for nid, own in theirs.rooms.items()
    )


def latest(recent: LogSlice) -> Mapping[int, Change]:
    """user_nid -> what has become of their profile; worked out once for all who ask for the slice."""
    found: dict[int, Change] | None = recent.shared.get(ProfileStream)
    if found is None:
        found = recent.shared[ProfileStream] = {}
        for _, entry in recent.of(ProfileChanged):
            if entry.key is None:
                found[entry.user_nid] = Change(entry.user_id, removed=True)
            else:
                change = found.setdefault(entry.user_nid, Change(entry.user_id))
                change.fields[entry.key] = entry.value
    return found


def _come_into_sight(request: SyncRequest, rooms: JoinedRooms) -> set[int] | None:
    """Local users in rooms the client does not know yet, and those who have come into rooms it knows.

    None: too many, or the log does not say: everybody is told anew.
    """
    if request.since is None or request.recent is None or request.full_state:
        return None
    new = rooms.new & rooms.joined.keys()
    if sum(len(rooms.joined[nid].members) for nid in new) > MAX_MEMBERS:
        return None
    met = {
        member.user_nid
        for nid in new
        for member in rooms.joined[nid].members.values()
        if member.membership == JOIN and member.local
    }
    for _, entry in request.recent.moving:
        room_nid = entry.persisted.room_nid
        if room_nid in request.joined and room_nid not in new:
            met.update(_come_in(entry, rooms.joined.get(room_nid), request.since))
    return met - {request.requester.user_nid}


def _come_in(entry: EventEntry, room: Room | None, since: Position) -> Iterator[int]:
    """Local users who were not in the room before, as far as it is known; not those who have another name there."""
    for change in entry.changes:
        if change.membership == JOIN and change.local and change.user_nid is not None:
            member = room.members.get(UserId(change.key[1])) if room is not None else None
            if member is None or member.since > since:
                yield change.user_nid
