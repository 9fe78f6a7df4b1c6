"""Which rooms the lists and subscriptions of a request match, and what of each is wanted. Pure, but for who prepares it.

spec: MSC4186, "Lists and subscriptions", "Combining room configs"
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from homeserver.graph.refs import INVITE, JOIN
from homeserver.log.entries import Position
from homeserver.matrix.folding import fold
from homeserver.rooms.memberships import Membership
from homeserver.runtime.turns import Steps, next_turn
from homeserver.sync.sliding.facts import Facts
from homeserver.sync.sliding.ports import Labels
from homeserver.sync.sliding.request import ListConfig, RoomConfig, RoomFilters, SlidingRequest
from homeserver.sync.sliding.required_state import RequiredState

MAX_COMBINED: Final = 10_000
"""Elements of the sets of state that combining makes, in one request; from then on rooms are told what any list wants."""
LOOKS_AT_ONCE: Final = 40_000
"""Looks at a room for a list in one turn."""


class Rule(NamedTuple):
    """What of a room is wanted."""

    limit: int
    required: RequiredState

    def __or__(self, other: Rule) -> Rule:
        """The superset of both."""
        if self.required is other.required:
            return self if self.limit >= other.limit else other
        return Rule(max(self.limit, other.limit), self.required | other.required)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a user's rooms are matched by."""

    rooms: Mapping[int, Membership]
    """Those that lists may have."""
    facts: Mapping[int, Facts]
    """Of each of them."""
    labels: Labels
    ids: Mapping[int, str]
    """room_nid -> room id of all rooms of the user."""
    removed: frozenset[int]
    """Rooms the user was kicked or banned from."""
    spaces: Mapping[str, frozenset[str]]
    """Id of a space that a filter names, and that the user is in -> ids of rooms in it."""


class Asked(NamedTuple):
    """What is wanted of rooms, by what they match."""

    lists: Mapping[str, Rule]
    subscriptions: Mapping[str, Rule]
    """By room id."""


@dataclass(slots=True)
class Windows:
    """What a request matches."""

    asked: Asked
    counts: dict[str, int] = field(default_factory=dict)
    """List -> how many rooms it has."""
    rules: dict[int, Rule] = field(default_factory=dict)
    """room_nid -> what of it is wanted, of all that match."""
    lists: dict[str, AbstractSet[int]] = field(default_factory=dict)
    """List -> rooms in its ranges."""
    matched: list[Sequence[int]] = field(default_factory=list)
    """Of each list all rooms it has, whatever its ranges."""
    subscribed: dict[str, int] = field(default_factory=dict)
    """Room id -> room_nid, of subscriptions to rooms that the user may see."""
    written: bytes = b""
    """`counts` as JSON, once somebody has written it."""


def rules_of(request: SlidingRequest, me: str, most: int) -> Asked:
    """`me`: the user's id; `most`: events of a room, whatever the request says."""

    def rule(config: RoomConfig) -> Rule:
        return Rule(min(config.timeline_limit, most), config.required(me))

    return Asked(
        {name: rule(config) for name, config in request.lists.items()},
        {room_id: rule(config) for room_id, config in request.room_subscriptions.items()},
    )


async def match(request: SlidingRequest, material: Material, asked: Asked) -> Windows:
    """`asked`: `rules_of` the request. Of many lists of many rooms others have a turn between."""
    ordered = _ordered(material) if request.lists else []
    matched: list[Sequence[int]] = []
    steps = Steps(LOOKS_AT_ONCE)
    for wanted in request.lists.values():
        tests = _tests(wanted, material)
        if tests and steps.full(len(ordered) * len(tests)):
            await next_turn()
        rooms = ordered
        for test in tests:
            rooms = list(filter(test, rooms))
        matched.append(rooms)
    subscribed: dict[str, int] = {}
    if request.room_subscriptions:
        numbers = {material.ids[nid]: nid for nid in material.rooms}
        subscribed = {room_id: numbers[room_id] for room_id in asked.subscriptions if room_id in numbers}
    return await _cut_out(request, asked, matched, subscribed, steps)


async def moved_on(windows: Windows, request: SlidingRequest, active: Sequence[int]) -> Windows:
    """The same after something has happened in `active`, rooms that the user is joined to, where it was last first, and nothing
    that changes which rooms a list has. If its ranges have the same rooms as before, `rules` are the same object.
    """
    moved: list[Sequence[int]] = []
    steps = Steps(LOOKS_AT_ONCE)
    for wanted, rooms in zip(request.lists.values(), windows.matched, strict=True):
        if _has_all(wanted.windows, len(rooms)):
            moved.append(rooms)  # in whatever order
            continue
        if steps.full(2 * len(rooms)):
            await next_turn()
        moved.append(_to_front(rooms, active))
    if all(rooms is before for rooms, before in zip(moved, windows.matched, strict=True)):
        return windows
    found = await _cut_out(request, windows.asked, moved, windows.subscribed, steps)
    return replace(windows, matched=moved) if found.lists == windows.lists else found


async def _cut_out(
    request: SlidingRequest,
    asked: Asked,
    matched: list[Sequence[int]],
    subscribed: dict[str, int],
    steps: Steps,
) -> Windows:
    """What is in the ranges of lists, of which `matched` has all rooms in order, and what is subscribed to."""
    found = Windows(asked, matched=matched, subscribed=subscribed)
    combined = _Combined(found.rules, asked)
    for (name, wanted), rooms in zip(request.lists.items(), matched, strict=True):
        if steps.full(len(rooms)):
            await next_turn()
        found.counts[name] = len(rooms)
        inside = rooms if wanted.windows is None else _cut(rooms, wanted.windows)
        found.lists[name] = frozenset(inside)
        combined.add(inside, asked.lists[name])
    for room_id, nid in subscribed.items():
        combined.add((nid,), asked.subscriptions[room_id])
    return found


def _has_all(windows: Sequence[tuple[int, int]] | None, count: int) -> bool:
    """Whether a range has the whole list."""
    return windows is None or any(first == 0 and last + 1 >= count for first, last in windows)


def _to_front(rooms: Sequence[int], active: Sequence[int]) -> Sequence[int]:
    """Those of a list that are `active` come first, as they stand there."""
    there = frozenset(rooms)
    first = [nid for nid in active if nid in there]
    if rooms[: len(first)] == first:
        return rooms
    moved = frozenset(first)
    return [*first, *(nid for nid in rooms if nid not in moved)]


class _Combined:
    """Adds to what is wanted of rooms."""

    def __init__(self, rules: dict[int, Rule], asked: Asked) -> None:
        self._rules = rules
        self._asked = asked
        self._pairs: dict[tuple[Rule, Rule], Rule] = {}
        self._made = 0
        self._whole: Rule | None = None

    def add(self, rooms: Collection[int], rule: Rule) -> None:
        rules = self._rules
        if not rules:
            rules.update(dict.fromkeys(rooms, rule))
            return
        for nid in rooms:
            known = rules.get(nid)
            if known is None:
                rules[nid] = rule
            elif known is not rule and known is not self._whole:
                rules[nid] = self._pairs.get((known, rule)) or self._both(known, rule)

    def _both(self, known: Rule, rule: Rule) -> Rule:
        """What both want, or, where that has been too much already, what any list or subscription wants."""
        if self._made > MAX_COMBINED:
            if self._whole is None:
                self._whole = _whole([*self._asked.lists.values(), *self._asked.subscriptions.values()])
            return self._whole
        both = self._pairs[known, rule] = known | rule
        if both.required is not known.required:
            self._made += both.required.size
        return both


def _whole(rules: Sequence[Rule]) -> Rule:
    """The superset of all. By halves: each is joined some seven times, not hundreds of times."""
    while len(rules) > 1:
        rest = [rules[-1]] if len(rules) % 2 else []
        rules = [one | other for one, other in zip(rules[::2], rules[1::2], strict=False)] + rest
    return rules[0]


def _ordered(material: Material) -> Sequence[int]:
    """By the newest event; rooms one is not in by when one left, or was invited."""

    def at(item: tuple[int, Membership]) -> Position:
        nid, own = item
        return material.facts[nid].newest if own.membership == JOIN else own.position

    return [nid for nid, _ in sorted(material.rooms.items(), key=at, reverse=True)]


def _cut(rooms: Sequence[int], windows: Sequence[tuple[int, int]]) -> Sequence[int]:
    if len(windows) == 1:
        first, last = windows[0]
        return rooms[first : last + 1]
    found: dict[int, None] = {}
    for first, last in windows:
        found.update(dict.fromkeys(rooms[first : last + 1]))
    return list(found)


def _tests(wanted: ListConfig, material: Material) -> list[Callable[[int], bool]]:
    """What each room of a list has to pass."""
    filters = wanted.filters
    return [] if filters is None else [*_by_facts(filters, material), *_by_labels(filters, material)]


def _by_facts(filters: RoomFilters, material: Material) -> list[Callable[[int], bool]]:
    rooms, facts, tests = material.rooms, material.facts, list[Callable[[int], bool]]()
    if filters.invited is not None:
        tests.append(lambda nid: (rooms[nid].membership == INVITE) is filters.invited)
    if filters.is_encrypted is not None:
        tests.append(lambda nid: facts[nid].encrypted is filters.is_encrypted)
    if filters.room_types is not None:
        types = frozenset(each or "" for each in filters.room_types)
        tests.append(lambda nid: (facts[nid].type or "") in types)
    if filters.not_room_types is not None:
        unwanted = frozenset(each or "" for each in filters.not_room_types)
        tests.append(lambda nid: (facts[nid].type or "") not in unwanted)
    if filters.room_name_like is not None:
        like = fold(filters.room_name_like)
        tests.append(lambda nid: like in _name(facts[nid]))
    return tests


def _name(facts: Facts) -> str:
    return facts.folded[1] if facts.folded is not None else ""


def _by_labels(filters: RoomFilters, material: Material) -> list[Callable[[int], bool]]:
    labels, ids, tests = material.labels, material.ids, list[Callable[[int], bool]]()
    nothing: frozenset[str] = frozenset()
    if filters.is_dm is not None:
        tests.append(lambda nid: (ids[nid] in labels.direct) is filters.is_dm)
    if filters.tags is not None:
        tags = frozenset(filters.tags)
        tests.append(lambda nid: not tags.isdisjoint(labels.tags.get(nid, nothing)))
    if filters.not_tags is not None:
        unwanted = frozenset(filters.not_tags)
        tests.append(lambda nid: unwanted.isdisjoint(labels.tags.get(nid, nothing)))
    if filters.spaces is not None:
        children = frozenset(
            child for space in filters.spaces for child in material.spaces.get(space, nothing)
        )
        tests.append(lambda nid: ids[nid] in children)
    return tests
