"""Events of any making, written to a database as they are: for tests of what reads them there."""

from __future__ import annotations

from collections.abc import Iterable

from homeserver.events.event import Event
from homeserver.graph.entry import EventEntry
from homeserver.graph.interning import RoomIdentity
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import EMPTY_STATE, OUTLIER, EventRef
from homeserver.log.entries import Append
from homeserver.matrix.ids import EventId
from tests.support.graph import Process

AT_ONCE = 500


async def store_room(here: Process, events: Iterable[Event]) -> dict[EventId, int]:
    """Write a new room's events, auth events first, as outliers: they are there, with no history. Returns their numbers."""
    core = here.core
    refs: dict[EventId, EventRef] = {}
    entries: list[EventEntry] = []
    room_nid = await core.interning.new_room_nid()
    head: tuple[EventRef, ...] = ()
    for event in events:
        if not head:
            core.interning.add_room(RoomIdentity(room_nid, event.room_id, event.room_version))
        sender = await core.interning.user_nid(event.sender)
        key_nid = (await core.interning.key_nids([event.key]))[event.key] if event.key is not None else None
        ref = refs[event.event_id] = EventRef(event.event_id, 0, event.depth)
        persisted = PersistedEvent(
            event, ref, room_nid=room_nid, sender_nid=sender, state_before=EMPTY_STATE, flags=OUTLIER
        )
        auth = tuple(refs[each] for each in event.auth_event_ids)
        base, head = head, head or (ref,)
        entries.append(
            EventEntry(
                persisted=persisted,
                base=base,
                extremities=head,
                room_state=EMPTY_STATE,
                auth=auth,
                key_nid=key_nid,
            )
        )
        if len(entries) == AT_ONCE:
            await core.log.add(Append(entries))
            entries = []
    if entries:
        await core.log.add(Append(entries))
    return {event_id: ref.nid for event_id, ref in refs.items()}


async def empty(here: Process) -> None:
    """Take all rooms away again, so that the same events can be written once more."""
    async with here.core.db.transaction() as tx:
        for table in ("events", "rooms", "state", "state_resets"):
            await tx.execute("DELETE FROM " + table)  # type: ignore[arg-type]  # one of these
    here.core.events.clear()
    here.core.rooms.reset()
