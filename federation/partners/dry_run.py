"""What another configuration would have refused of what was done in the last days: `atrium federation dry-run`.

It looks at what `activity.py` has counted, so it knows days, servers and rooms, and no single request. What the configuration in
force has refused already was not done, and is not told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from federation.partners import store
from federation.partners.activity import DAY_MS
from federation.partners.policy import Policy, RoomFacts
from federation.partners.rooms import facts_of
from federation.partners.store import ActivityRow, RoomRow
from federation.ports import Refused
from homeserver.config.federation import FederationSection
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database

AT_ONCE: Final = 2_000
"""Rows looked at in one transaction."""

IN_ROOMS: Final = frozenset({"events", "sent", "served", "joined", "joining", "invited", "inviting"})
_INVITES: Final = frozenset({"invited", "inviting"})
FILES: Final = frozenset({"media_given", "media_fetched"})
PRESENCE: Final = frozenset({"presence_heard", "presence_told"})

WORDS: Final[Mapping[str, str]] = {
    "requests": "requests",
    "pdus": "events sent to us",
    "events": "events in rooms",
    "sent": "events told to it",
    "served": "requests about rooms",
    "joined": "joins, knocks and leaves of its users here",
    "joining": "joins of ours through it",
    "invited": "invites by its users",
    "inviting": "invites to its users",
    "media_given": "files given to it",
    "media_fetched": "files fetched from it",
    "presence_heard": "presence heard from it",
    "presence_told": "presence told to it",
}


class WouldRefuse(NamedTuple):
    """Something that was done and would not be."""

    server_name: ServerName
    reason: Refused
    kind: str
    times: int
    """At most: of rates it is not known how many of them."""
    room_id: str
    """Empty: in no room, or in several."""
    detail: str
    """What was compared with what; empty if there is nothing to compare."""

    @property
    def sentence(self) -> str:
        """For an administrator."""
        where = f" in {self.room_id}" if self.room_id else ""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.server_name}: {self.times} {WORDS[self.kind]}{where}: {_BECAUSE[self.reason]}{detail}"


_BECAUSE: Final[Mapping[Refused, str]] = {
    "server": "it is not spoken with at all",
    "requests": "more requests than agreed",
    "pdus": "more events than agreed",
    "room": "the room is not shared with it",
    "invite": "the room is not shared with it",
    "join": "the room is not shared with it",
    "media": "no files are shared with it",
    "media_size": "some were too large",
    "presence": "presence is not shared with it",
}


async def would_refuse(
    db: Database, section: FederationSection, clock: Clock, *, days: int
) -> list[WouldRefuse]:
    """By server, kind and room; `days`: of how many, today among them."""
    policy = Policy(section)
    since = clock.now_ms() // DAY_MS - days + 1
    found: list[WouldRefuse] = []
    after = ("", "", "")
    while True:
        async with db.read() as tx:
            rows = await store.list_activity(tx, since, after, AT_ONCE)
            rooms = {
                row.room_id: facts_of(row)
                for row in await store.find_rooms(tx, {row.room_id for row in rows if row.kind in IN_ROOMS})
            }
        found += _judged(policy, rows, rooms)
        if len(rows) < AT_ONCE:
            return found
        after = (rows[-1].server_name, rows[-1].kind, rows[-1].room_id)


def _judged(
    policy: Policy, rows: Sequence[ActivityRow], rooms: Mapping[str, RoomFacts]
) -> Iterator[WouldRefuse]:
    for row in rows:
        if row.kind not in WORDS:
            continue
        found = _refused(policy, row, rooms)
        if found is not None:
            reason, detail = found
            yield WouldRefuse(ServerName(row.server_name), reason, row.kind, row.times, row.room_id, detail)


def _refused(policy: Policy, row: ActivityRow, rooms: Mapping[str, RoomFacts]) -> tuple[Refused, str] | None:
    server_name = ServerName(row.server_name)
    if not policy.may_speak(server_name):
        return "server", ""
    terms, kind = policy.terms(server_name), row.kind
    if kind in IN_ROOMS and row.room_id and terms.rooms is not None:
        facts = rooms.get(row.room_id) or facts_of(RoomRow(row.room_id, None, []))
        if facts.owner is None:  # as `PartnerPolicy.may_share` has it of a room that is not here
            facts = facts._replace(owner=server_name)
        if not terms.rooms.match(facts):
            return ("invite" if kind in _INVITES else "room"), ", ".join(facts.aliases[:3])
    if kind in FILES:
        if not terms.media:
            return "media", ""
        if terms.max_media is not None and row.peak > terms.max_media:
            return "media_size", f"the largest had {row.peak} bytes"
    if kind in PRESENCE and not terms.presence:
        return "presence", ""
    for name, rate in (("requests", terms.requests), ("pdus", terms.pdus)):
        if kind == name and rate is not None and row.peak > rate.burst:
            return ("requests" if name == "requests" else "pdus"), f"{row.peak} in one second of one process"
    return None
