"""SQL that writes events. Every function writes a whole batch with one statement per table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, LiteralString, NamedTuple

from homeserver.events.event import Event
from homeserver.events.packing import pack
from homeserver.events.redaction import redact_event
from homeserver.graph.entry import ADOPTS, BESIDE, FOLLOWS, EventEntry, StateChange
from homeserver.graph.refs import JOIN, LEAVE
from homeserver.graph.resolved import THIS_EVENT, NewState
from homeserver.graph.state.chains import Row
from homeserver.graph.write import gap_store, originals_store
from homeserver.graph.write.gap_store import Opened
from homeserver.graph.write.originals_store import Original
from homeserver.log.entries import Written
from homeserver.storage.tx import Later, Pipeline

Batch = Sequence[Written[EventEntry]]


def find_heads(batch: Pipeline, room_nids: list[int]) -> Later[list[tuple[int, list[int], int]]]:
    """(room_nid, its forward extremities, the state they make) of rooms that exist."""
    return batch.all(
        "SELECT room_nid, extremities, state_nid FROM rooms WHERE room_nid = ANY(%(nids)s::bigint[])",
        nids=room_nids,
    )


def hold_states(batch: Pipeline, state_nids: list[int]) -> Later[list[tuple[int]]]:
    """Those of the states that are here; nobody takes them away until the transaction has ended."""
    return batch.all(
        """
        SELECT state_nid FROM state WHERE state_nid = ANY(%(nids)s::bigint[]) ORDER BY state_nid FOR KEY SHARE
        """,
        nids=state_nids,
    )


def insert_events(batch: Pipeline, written: Batch, places: Mapping[int, Row]) -> None:
    """`places`: event_nid -> place in the chain cover, of state events."""
    batch.execute(
        _INSERT_PLACED if places else _INSERT_EVENTS,
        **_event_columns(written),
        **(_place_columns(written, places) if places else {}),
    )


_INSERT: LiteralString = """
    INSERT INTO events (event_nid, room_nid, sender_nid, state_nid, origin_server_ts, replaces, key_nid, flags,
                        event_id, pdu, facts, thread, mentions{columns})
    SELECT nid, room, sender, state, ts, nullif(replaces, 0), nullif(key, 0), flags, id,
           pdu, facts, nullif(thread, ''), nullif(mentions, '')::bigint[]{values}
    FROM unnest(%(nids)s::bigint[], %(rooms)s::bigint[], %(senders)s::bigint[], %(states)s::bigint[],
                %(ts)s::bigint[], %(replaces)s::bigint[], %(keys)s::int[], %(flags)s::smallint[], %(ids)s::text[],
                %(pdus)s::bytea[], %(facts)s::smallint[], %(threads)s::text[], %(mentions)s::text[]{arrays})
         AS row (nid, room, sender, state, ts, replaces, key, flags, id, pdu, facts, thread, mentions{columns})
"""
_INSERT_EVENTS: LiteralString = _INSERT.format(columns="", values="", arrays="")
_INSERT_PLACED: LiteralString = _INSERT.format(
    columns=", chain, sequence, links",
    values=", nullif(chain, 0), nullif(sequence, 0), nullif(links, '')",
    arrays=", %(chains)s::bigint[], %(sequences)s::int[], %(links)s::bytea[]",
)


def _place_columns(written: Batch, places: Mapping[int, Row]) -> dict[str, Any]:
    rows = [places.get(position) for position, _ in written]
    return {
        "chains": [row.chain or 0 if row else 0 for row in rows],
        "sequences": [row.sequence if row else 0 for row in rows],
        "links": [row.links or b"" if row else b"" for row in rows],
    }


def _event_columns(written: Batch) -> dict[str, Any]:
    return {
        "nids": [position for position, _ in written],
        "rooms": [e.persisted.room_nid for _, e in written],
        "senders": [e.persisted.sender_nid for _, e in written],
        "states": [e.persisted.state_before.nid for _, e in written],
        "ts": [e.persisted.event.origin_server_ts for _, e in written],
        "replaces": [e.replaces.nid if e.replaces else 0 for _, e in written],
        "keys": [e.key_nid or 0 for _, e in written],
        "flags": [e.persisted.flags for _, e in written],
        "ids": [e.persisted.event.event_id for _, e in written],
        "pdus": [_stored_form(e) for _, e in written],
        "facts": [e.persisted.facts.bits for _, e in written],
        "threads": [e.persisted.facts.thread or "" for _, e in written],
        "mentions": [
            "{" + ",".join(map(str, e.persisted.facts.mentions)) + "}" if e.persisted.facts.mentions else ""
            for _, e in written
        ],
    }


def _stored_form(entry: EventEntry) -> bytes:
    """State events are packed: there are many of them in large rooms, all alike. Messages differ in what they say."""
    event = entry.persisted.event
    if entry.key_nid is None:
        return event.pdu
    return pack(event.pdu, event.room_id, {ref.event_id: ref.nid for ref in (*entry.prev, *entry.auth)})


def write_rooms(batch: Pipeline, written: Batch) -> None:
    """Insert new rooms, move the heads of the others."""
    last = {entry.persisted.room_nid: entry for _, entry in written if entry.place != BESIDE}
    new = {e.persisted.room_nid: e.persisted.event for _, e in written if not e.base and e.place == FOLLOWS}
    if new:
        _insert_rooms(batch, new)
    if not last:
        return
    gaps = [(entry.persisted.room_nid, at) for at, entry in written if entry.place == ADOPTS]
    if gaps:
        batch.execute(
            "INSERT INTO room_gaps (room_nid, position) SELECT * FROM unnest(%(rooms)s::bigint[], %(at)s::bigint[])",
            rooms=[room for room, _ in gaps],
            at=[at for _, at in gaps],
        )
    batch.execute(
        """
        UPDATE rooms SET extremities = row.extremities::bigint[], depth = row.depth, state_nid = row.state,
                         state_height = row.height
        FROM unnest(%(nids)s::bigint[], %(extremities)s::text[], %(depths)s::bigint[], %(states)s::bigint[],
                    %(heights)s::int[]) AS row (nid, extremities, depth, state, height)
        WHERE rooms.room_nid = row.nid
        """,
        nids=list(last),
        extremities=["{" + ",".join(str(r.nid) for r in e.extremities) + "}" for e in last.values()],
        depths=[max(r.depth for r in e.extremities) for e in last.values()],
        states=[e.room_state.nid for e in last.values()],
        heights=[e.room_state.height for e in last.values()],
    )


def _insert_rooms(batch: Pipeline, new: dict[int, Event]) -> None:
    batch.execute(
        """
        INSERT INTO rooms (room_nid, room_id, version, extremities, depth, state_nid, state_height)
        SELECT nid, id, version, '{}', 0, 0, 0 FROM unnest(%(nids)s::bigint[], %(ids)s::text[], %(versions)s::text[])
            AS row (nid, id, version)
        """,
        nids=list(new),
        ids=[event.room_id for event in new.values()],
        versions=[event.room_version.id for event in new.values()],
    )


def write_state(batch: Pipeline, written: Batch) -> None:
    """States made by resolution, and what becomes of current state and memberships. The state after a state event follows
    from its own row, and is not written (`state_rows`).
    """
    made = [
        (position, entry, state)
        for position, entry in written
        for state in entry.new_states
        if not state.known
    ]
    if made:
        _insert_resolved_states(batch, made)
    _insert_resets(batch, written)
    changed = [item for item in written if item.entry.changes]
    if not changed:
        return
    changes = _changes(changed)
    members = [change for change in changes if change.what.user_nid is not None]
    if members:
        _keep_past_memberships(batch, members)
    _upsert_current_state(batch, changes)


def _insert_resolved_states(batch: Pipeline, made: Sequence[tuple[int, EventEntry, NewState]]) -> None:
    # Arrays of different lengths travel as literals.
    def literal(values: Iterable[int]) -> str:
        return "{" + ",".join(map(str, values)) + "}"

    batch.execute(
        """
        INSERT INTO state (state_nid, parent, room_nid, height, keys, events, content)
        SELECT nid, parent, room, height, keys::int[], events::bigint[], nullif(content, '')
        FROM unnest(%(nids)s::bigint[], %(parents)s::bigint[], %(rooms)s::bigint[], %(heights)s::int[],
                    %(keys)s::text[], %(events)s::text[], %(contents)s::bytea[])
             AS row (nid, parent, room, height, keys, events, content)
        """,
        nids=[state.nid for _, _, state in made],
        parents=[state.parent for _, _, state in made],
        rooms=[entry.persisted.room_nid for _, entry, _ in made],
        heights=[state.height for _, _, state in made],
        keys=[literal(state.keys) for _, _, state in made],
        events=[
            literal(at if nid == THIS_EVENT else nid for nid in state.keys.values()) for at, _, state in made
        ],
        contents=[state.content or b"" for _, _, state in made],
    )


def _insert_resets(batch: Pipeline, written: Batch) -> None:
    """What current state became where branches met: nothing else tells clients who come back later (SYNC-07)."""
    rows = [(at, entry, change, True) for at, entry in written for change in entry.by_resolution]
    said = {(at, change.key_nid) for at, _, change, _ in rows}
    rows += [
        (at, entry, entry.superseded, False)
        for at, entry in written
        if entry.superseded is not None and (at, entry.superseded.key_nid) not in said
    ]
    if not rows:
        return
    batch.execute(
        """
        INSERT INTO state_resets (room_nid, position, key_nid, event_nid, changed)
        SELECT * FROM unnest(%(rooms)s::bigint[], %(positions)s::bigint[], %(keys)s::int[], %(events)s::bigint[],
                             %(changed)s::bool[])
        """,
        rooms=[entry.persisted.room_nid for _, entry, _, _ in rows],
        positions=[at for at, _, _, _ in rows],
        keys=[change.key_nid for _, _, change, _ in rows],
        events=[change.ref.nid if change.ref else 0 for _, _, change, _ in rows],
        changed=[changed for _, _, _, changed in rows],
    )


class _Change(NamedTuple):
    """A change of a room's current state that a batch writes."""

    position: int
    room: int
    what: StateChange
    alone: bool
    """The batch changes this key once."""
    last: bool
    """Of several changes of a key, the last."""


def _changes(written: Batch) -> list[_Change]:
    """In log order."""
    all_of_them = [
        (at, entry.persisted.room_nid, change) for at, entry in written for change in entry.changes
    ]
    count = Counter((room, change.key_nid) for _, room, change in all_of_them)
    left = count.copy()
    found: list[_Change] = []
    for at, room, change in all_of_them:
        key = (room, change.key_nid)
        left[key] -= 1
        found.append(_Change(at, room, change, count[key] == 1, left[key] == 0))
    return found


def _upsert_current_state(batch: Pipeline, changes: Sequence[_Change]) -> None:
    """A membership holds since its event, or since the position where resolution made it; who was joined and is joined has
    at most another name.
    """
    unset = [(each.room, each.what.key_nid) for each in changes if each.last and each.what.ref is None]
    rows = [(each, each.what, each.what.ref) for each in changes if each.last and each.what.ref is not None]
    if unset:
        batch.execute(
            """
            DELETE FROM current_state c USING unnest(%(rooms)s::bigint[], %(keys)s::int[]) AS row (room, key)
            WHERE c.room_nid = row.room AND c.key_nid = row.key
            """,
            rooms=[room for room, _ in unset],
            keys=[key for _, key in unset],
        )
    batch.execute(
        """
        INSERT INTO current_state (room_nid, key_nid, event_nid, user_nid, membership, since)
        SELECT room, key, event, nullif(usr, 0), nullif(row.membership, 0), CASE
            WHEN usr = 0 THEN NULL
            WHEN alone AND row.membership = 1 AND old.membership = 1 THEN coalesce(old.since, old.event_nid)
            ELSE nullif(position, event) END
        FROM unnest(%(rooms)s::bigint[], %(keys)s::int[], %(events)s::bigint[], %(users)s::bigint[],
                    %(memberships)s::smallint[], %(positions)s::bigint[], %(alone)s::bool[])
             AS row (room, key, event, usr, membership, position, alone)
        LEFT JOIN current_state old ON usr <> 0 AND old.room_nid = room AND old.key_nid = key
        ON CONFLICT (room_nid, key_nid) DO UPDATE
            SET event_nid = excluded.event_nid, user_nid = excluded.user_nid, membership = excluded.membership,
                since = excluded.since
        """,
        rooms=[each.room for each, _, _ in rows],
        keys=[change.key_nid for _, change, _ in rows],
        events=[ref.nid for _, _, ref in rows],
        users=[change.user_nid or 0 for _, change, _ in rows],
        memberships=[change.membership or 0 for _, change, _ in rows],
        positions=[each.position for each, _, _ in rows],
        alone=[each.alone for each, _, _ in rows],
    )


def _keep_past_memberships(batch: Pipeline, changes: Sequence[_Change]) -> None:
    """Before current state changes: what it says of members, and is no longer true, goes into the record. Of users of other
    servers too: whose device lists a client has to look at is told from it (E2E-11).
    """
    passed = [each for each in changes if not each.last or each.what.ref is None]
    batch.execute(
        """
        INSERT INTO past_memberships (user_nid, event_nid, room_nid, membership)
        SELECT c.user_nid, coalesce(c.since, c.event_nid), c.room_nid, c.membership
        FROM unnest(%(rooms)s::bigint[], %(keys)s::int[], %(stay)s::bool[]) AS row (room, key, stay)
        JOIN current_state c ON c.room_nid = room AND c.key_nid = key
        WHERE c.user_nid IS NOT NULL AND c.membership IS NOT NULL AND NOT (stay AND c.membership = 1)
        UNION
        SELECT * FROM unnest(%(users)s::bigint[], %(events)s::bigint[], %(where)s::bigint[], %(passed)s::smallint[])
        ON CONFLICT DO NOTHING
        """,
        rooms=[each.room for each in changes],
        keys=[each.what.key_nid for each in changes],
        stay=[each.alone and each.what.membership == JOIN for each in changes],
        users=[each.what.user_nid for each in passed],
        events=[each.position for each in passed],
        where=[each.room for each in passed],
        # What resolution took away is a leave.
        passed=[each.what.membership or LEAVE for each in passed],
    )


def write_gaps(batch: Pipeline, written: Batch) -> None:
    """Gaps that events open, because what is before them is not here, and what others fill."""
    opened = [
        Opened(entry.persisted.room_nid, position, entry.missing)
        for position, entry in written
        if entry.opens_gap
    ]
    if opened:
        gap_store.open_gaps(batch, opened)
    filling = [entry.persisted for _, entry in written if entry.fills_gap]
    if filling:
        gap_store.fill(batch, [each.room_nid for each in filling], [each.event.event_id for each in filling])


def apply_redactions(batch: Pipeline, written: Batch, *, keep: bool) -> None:
    """Replace what was redacted by its stripped form. Irreversible. spec: client-server-api/#redactions

    `keep`: what stood there is kept apart for a while.
    """
    last = {entry.redacts: position for position, entry in written if entry.redacts is not None}
    originals_store.redact(
        batch,
        [target.nid for target in last],
        [redact_event(target.event).pdu for target in last],
        list(last.values()),
        keep=keep,
    )


def write_waiting(batch: Pipeline, written: Batch, *, keep: bool) -> None:
    """Redactions whose target is not here yet, and what is redacted as it comes (RED-02). `keep`: as above."""
    waiting = [(position, entry) for position, entry in written if entry.waits_for is not None]
    if waiting:
        batch.execute(
            """
            INSERT INTO waiting_redactions (redacts, room_nid, event_nid)
            SELECT * FROM unnest(%(redacts)s::text[], %(rooms)s::bigint[], %(events)s::bigint[])
            """,
            redacts=[entry.waits_for for _, entry in waiting],
            rooms=[entry.persisted.room_nid for _, entry in waiting],
            events=[position for position, _ in waiting],
        )
    redacted = [
        (position, redaction.nid)
        for position, e in written
        if (redaction := e.persisted.redaction) is not None
    ]
    if redacted:
        values = {"targets": [at for at, _ in redacted], "redactions": [nid for _, nid in redacted]}
        batch.execute(
            """
            UPDATE events SET redacted_by = row.redaction
            FROM unnest(%(targets)s::bigint[], %(redactions)s::bigint[]) AS row (target, redaction)
            WHERE event_nid = row.target
            """,
            **values,
        )
        batch.execute(
            "UPDATE events SET flags = flags & ~8::smallint WHERE event_nid = ANY(%(nids)s::bigint[])",
            nids=values["redactions"],
        )
        originals = [
            Original(at, e.persisted.room_nid, e.persisted.sender_nid, e.persisted.redaction.nid, e.original)
            for at, e in written
            if e.original is not None and e.persisted.redaction is not None
        ]
        if originals and keep:
            originals_store.keep_originals(batch, originals)
        batch.execute(
            "DELETE FROM waiting_redactions WHERE event_nid = ANY(%(nids)s::bigint[])",
            nids=values["redactions"],
        )
