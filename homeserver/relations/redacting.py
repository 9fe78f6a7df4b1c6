"""Redacting what relates to an event together with it: edits, a thread, the answers to a poll.

The event itself is redacted by the request; what relates to it by a job, one redaction after another, each once, whatever
process is killed meanwhile.

spec: MSC3912
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.rooms.cache import Rooms
from homeserver.jobs.service import Jobs
from homeserver.jobs.types import JobKind, Retry
from homeserver.matrix import json
from homeserver.matrix.errors import (
    Forbidden,
    InvalidParam,
    NotFound,
    UserDeactivated,
    UserLocked,
    UserSuspended,
)
from homeserver.matrix.ids import EventId, RoomId
from homeserver.relations import store
from homeserver.rooms.sending import SendingService
from homeserver.sessions.acting import ActingUsers
from homeserver.storage.database import Database
from homeserver.web.auth import Requester

MOST: Final = 5_000
"""Events that are redacted with one; those that came first."""
PAGE: Final = 100
MAX_TYPES: Final = 20
_MAX_TYPE: Final = 255
ANY: Final = "*"


class RelatedRedaction(msgspec.Struct, frozen=True):
    """Who redacts what; `content` of each redaction."""

    user_nid: int
    appservice_id: str | None
    room_id: RoomId
    event_id: EventId
    rel_types: list[str]
    content: dict[str, Any]


REDACT: Final = JobKind(
    "relations.redact",
    RelatedRedaction,
    retry=Retry(attempts=20),
    at_once=2,
    timeout=900.0,
    most=1_000,
)


class RelatedRedactions:
    """Fulfils `rooms.ports.RelatedRedactions`. Holds nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self, db: Database, jobs: Jobs, acting: ActingUsers, sending: SendingService, rooms: Rooms, events: EventCache
    ) -> None:  # fmt: skip
        self._db = db
        self._jobs = jobs
        self._acting = acting
        self._sending = sending
        self._rooms = rooms
        self._events = events

    def check(self, rel_types: object) -> list[str]:
        """See the protocol."""
        if not isinstance(rel_types, list) or len(rel_types) > MAX_TYPES:
            raise InvalidParam(
                f"with_rel_types: a list of at most {MAX_TYPES} types of relations is expected"
            )
        if any(not isinstance(each, str) or len(each) > _MAX_TYPE for each in rel_types):
            raise InvalidParam("with_rel_types: types of relations are expected")
        return rel_types

    async def order(
        self,
        requester: Requester,
        room_id: RoomId,
        event_id: EventId,
        rel_types: Sequence[str],
        content: Mapping[str, Any],
    ) -> None:
        """See the protocol."""
        wanted = RelatedRedaction(
            requester.user_nid,
            requester.appservice_id,
            room_id,
            event_id,
            list(rel_types),
            dict(content),
        )
        types = hashlib.sha256(json.dumps(sorted(rel_types))).hexdigest()
        async with self._db.transaction() as tx:
            await self._jobs.add(tx, REDACT, wanted, key=f"{requester.user_nid} {event_id} {types}")
        self._jobs.wake()

    async def carry_out(self, wanted: RelatedRedaction) -> None:
        """Redact what may be redacted. Raises what the database says: then it is done once more, from the beginning."""
        room = await self._rooms.by_id(wanted.room_id)
        root = await self._events.by_id(wanted.event_id)
        if room is None or root is None:
            return
        rel_types = None if ANY in wanted.rel_types else wanted.rel_types
        after = -1 << 62
        for _ in range(MOST // PAGE):
            async with self._db.read() as tx:
                found = await store.find_related(tx, wanted.event_id, room.name.nid, rel_types, after, PAGE)
            for position in found:
                related = await self._events.one(position)
                if related is not None and _is_valid(related, root):
                    await self._redact(wanted, related.event.event_id)
            if len(found) < PAGE:
                return
            after = found[-1]

    async def _redact(self, wanted: RelatedRedaction, event_id: EventId) -> None:
        try:
            requester = await self._acting.requester(
                wanted.user_nid, wanted.appservice_id, when_suspended=True
            )
            # Once: what was done before a process was killed is found by this transaction.
            txn_id = f"with {wanted.event_id}"
            await self._sending.redact(requester, wanted.room_id, event_id, txn_id, wanted.content)
        except (Forbidden, NotFound, UserDeactivated, UserLocked, UserSuspended):
            return  # spec: MSC3912: what the sender may not redact is passed over


def _is_valid(related: PersistedEvent, root: PersistedEvent) -> bool:
    """Neither redacted already, nor an edit that counts for none. spec: client-server-api/#validity-of-replacement-events"""
    event = related.event
    if related.redaction is not None or related.hidden:
        return False
    relates = event.content.get("m.relates_to")
    if not isinstance(relates, dict) or relates.get("rel_type") != "m.replace":
        return True
    return event.sender == root.event.sender and event.type == root.event.type and event.state_key is None
