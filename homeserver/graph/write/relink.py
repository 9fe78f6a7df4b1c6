"""Signing a message again as what follows other events: it was built while another process wrote to the room.

So a room that several processes write to stays a line. What the message says, and whose it is, stays; its id, which is a
hash, does not.
spec: server-server-api/#pdus (`prev_events`, `depth`), rooms/ (event IDs)
"""

from __future__ import annotations

import msgspec

from homeserver.events.builder import EventDraft, build_event, next_depth
from homeserver.events.sticky import duration_of
from homeserver.graph.entry import EventEntry
from homeserver.graph.refs import EventRef
from homeserver.graph.write.append import MAX_PREV, Identity


class Relinker:
    """Holds the name and the key that events are signed with."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def __call__(self, entry: EventEntry, extremities: tuple[EventRef, ...]) -> None:
        """Let an event that is not written yet follow these: the room's forward extremities. See `sink.Relink`."""
        old = entry.persisted.event
        prev = extremities[-MAX_PREV:]
        event = build_event(
            EventDraft(old.type, None, old.sender, old.content, sticky_ms=duration_of(old)),
            room_id=old.room_id,
            room_version=old.room_version,
            prev=[ref.event_id for ref in prev],
            auth=old.auth_event_ids,
            depth=next_depth((ref.depth for ref in prev), old.room_version),
            origin_server_ts=old.origin_server_ts,
            server_name=self._identity.server_name,
            signing_key=self._identity.key,
        )
        entry.persisted.become(event)
        rest = tuple([ref for ref in extremities if ref not in prev])
        for name, value in (
            ("base", extremities),
            ("prev", prev),
            ("extremities", (*rest, entry.persisted.ref)),
        ):
            msgspec.structs.force_setattr(entry, name, value)
