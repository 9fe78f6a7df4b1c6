"""What counted when: a user's push rules over time, and whom they ignored.

A message is unread by the rules of the moment when it came: who ends the silence of a room does not find its whole past
unread.

spec: client-server-api/#receiving-notifications (PUSH-14)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from homeserver.account_data.entries import IGNORED
from homeserver.account_data.ignores import ignored_in
from homeserver.account_data.past import past_contents
from homeserver.graph.interning import Interning
from homeserver.log.entries import Position
from homeserver.matrix.ids import RoomId, UserId
from homeserver.push.evaluator import Evaluator
from homeserver.runtime.turns import next_turn
from homeserver.storage.database import Database
from homeserver.sync.types import Unwanted

AT_ONCE: Final = 16 * 1024
"""Bytes of a list that are read without letting others go on."""

TRIED_AT_ONCE: Final = 16
"""Sets of rules whose patterns are tried on a room without letting others go on."""

Past = Sequence[tuple[Position, Evaluator]]
"""Rules of before, the oldest first, each with the position up to which events came under them."""


class RulesOverTime(NamedTuple):
    """A user's rules, as far as they matter in one room (or in any, before `in_room`)."""

    current: Evaluator
    past: Past = ()

    def at(self, event_nid: Position) -> Evaluator:
        """Those by which an event counts."""
        for upto, evaluator in self.past:
            if event_nid <= upto:
                return evaluator
        return self.current

    def in_room(self, room_id: RoomId, after: Position = 0) -> RulesOverTime:
        """What remains of them in a room, for events after a position."""
        past = [(upto, each.in_room(room_id)) for upto, each in self.past if upto > after]
        return RulesOverTime(self.current.in_room(room_id), past)

    async def in_rooms(
        self, names: Mapping[int, RoomId], after: Mapping[int, Position] | None = None
    ) -> dict[int, RulesOverTime]:
        """`in_room` of some rooms, by room_nid; in turns, where there are patterns to try. `after`: by room_nid; None: 0."""
        tries = sum(each.tries_rooms for each in (self.current, *(each for _, each in self.past)))
        found: dict[int, RulesOverTime] = {}
        for number, (nid, room_id) in enumerate(names.items()):
            if tries and number % max(1, TRIED_AT_ONCE // tries) == 0:
                await next_turn()
            found[nid] = self.in_room(room_id, after[nid] if after is not None else 0)
        return found

    @property
    def silent(self) -> bool:
        """Whether nothing ever notified, nor does."""
        return self.current.silent and all(each.silent for _, each in self.past)

    @property
    def by_facts(self) -> bool:
        """Whether facts alone decide, at any time."""
        return self.current.by_facts and all(each.by_facts for _, each in self.past)


class Unheard(NamedTuple):
    """Whose events do not count, by user_nid."""

    now: Sequence[int]
    """Whom the user ignores."""
    until: Mapping[int, Position]
    """Until when others were ignored, whom they do not ignore any more."""


async def unheard_by(db: Database, interning: Interning, user_nid: int, unwanted: Unwanted) -> Unheard:
    """Whom a user ignores or has ignored. Takes a turn for each list of before, and for each piece of names."""
    now = await interning.find_user_nids([UserId(each) for each in unwanted.ignored])
    if not unwanted.since:
        return Unheard(list(now.values()), {})
    async with db.read() as tx:
        past = await past_contents(tx, user_nid, IGNORED)
    until: dict[str, Position] = {}
    for upto, content in past:
        if content:
            if len(content) > AT_ONCE:
                await next_turn()
            until.update(dict.fromkeys(ignored_in(content) - unwanted.ignored, upto))
    nids = await interning.find_user_nids([UserId(each) for each in until])
    return Unheard(list(now.values()), {nid: until[user_id] for user_id, nid in nids.items()})
