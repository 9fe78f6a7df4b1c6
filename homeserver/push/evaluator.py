"""A user's push rules as a plan over the facts of events: what most rules ask was answered when the event was written.

Who has the default rules, switched some of them off, gave them other actions, or muted rooms, is served from facts alone:
one table look-up per event. Other rules of one's own (keywords above all) are steps that look into the event, and only into
those that could meet them. Pure.

spec: client-server-api/#push-rules (PUSH-01 to PUSH-04, PUSH-14)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from homeserver.events import push_facts as fact
from homeserver.events.push_facts import Facts
from homeserver.events.push_rules import (
    EVENT_WORK,
    MAX_CONDITIONS,
    MAX_PATTERN,
    PIECE_WORK,
    SILENT,
    CompiledRule,
    EvaluationContext,
    Outcome,
    Rule,
    compile_rule,
    outcome_of,
)
from homeserver.matrix.glob import OutOfWork, WorkBudget, fold, glob, is_literal
from homeserver.matrix.ids import RoomId
from homeserver.push.defaults import ALL_KINDS, SUBSCRIBED_THREAD, UNSUBSCRIBED_THREAD, Kind

ROOM_WORK: Final = EVENT_WORK // 64
"""What looking for the rules of a room may spend: more than a hundred patterns of room ids."""
_USER_MENTION: Final = ".m.rule.is_user_mention"
_NEVER: Final = {".m.rule.invite_for_me"}
"""Who is invited is not in the room yet: what is unread is counted from one's join on."""
_DEFAULTS: Final = {
    ".m.rule.master": 0,
    ".m.rule.suppress_notices": fact.NOTICE,
    ".m.rule.member_event": fact.MEMBER,
    _USER_MENTION: 0,
    ".m.rule.is_room_mention": fact.ROOM_MENTION,
    ".m.rule.tombstone": fact.TOMBSTONE,
    ".m.rule.reaction": fact.REACTION,
    ".m.rule.room.server_acl": fact.SERVER_ACL,
    ".m.rule.suppress_edits": fact.EDIT,
    ".m.rule.call": fact.CALL,
    ".m.rule.encrypted_room_one_to_one": fact.TWO_MEMBERS | fact.ENCRYPTED,
    ".m.rule.room_one_to_one": fact.TWO_MEMBERS | fact.MESSAGE,
    ".m.rule.message": fact.MESSAGE,
    ".m.rule.encrypted": fact.ENCRYPTED,
}
_TYPES: Final = {
    "m.room.message": fact.MESSAGE,
    "m.room.encrypted": fact.ENCRYPTED,
    "m.call.invite": fact.CALL,
    "m.reaction": fact.REACTION,
    "m.room.member": fact.MEMBER,
}


class Step(NamedTuple):
    """One rule."""

    outcome: Outcome
    bits: int = 0
    """All of these facts are needed."""
    mention: bool = False
    """The user must be mentioned."""
    room: str | None = None
    """The room's id must be this one."""
    rooms: tuple[str, ...] = ()
    """Globs that the room's id must fit, all of them."""
    rule: CompiledRule | None = None
    """What else must hold, asked of the event itself; None: nothing."""
    actions: Sequence[Any] = ()
    subscribed: bool | None = None
    """The event must be in a thread that the user is subscribed to, or is not; None: no matter. spec: MSC4306"""

    @property
    def is_certain(self) -> bool:
        """Whether every event fits."""
        return self.subscribed is None and not (
            self.bits or self.mention or self.room or self.rooms or self.rule
        )


class Evaluator:
    """All enabled rules, in order, as far as they matter in one room (or in any, before `in_room`)."""

    def __init__(self, steps: Iterable[Step], threads: Collection[str] = frozenset()) -> None:
        """`threads`: those that the user is subscribed to, by the event ids of their roots."""
        self.threads = threads
        self.steps = tuple(_until_certain(steps))
        self.by_facts = all(step.rule is None for step in self.steps)
        """Whether facts alone decide."""
        self.silent = all(not step.outcome.notify for step in self.steps)
        """Whether nothing ever notifies."""
        self._local = any(step.rooms or step.room for step in self.steps)
        self.tries_rooms = any(step.rooms and _only_in(step) is None for step in self.steps)
        """Whether `in_room` has patterns to try: it may take some tenths of a millisecond then."""
        self._everywhere = [number for number, step in enumerate(self.steps) if _only_in(step) is None]
        self._only: dict[str, list[int]] = {}
        """Folded room id -> numbers of the steps that fit no other room: of a thousand muted rooms each looks at one."""
        for number, step in enumerate(self.steps):
            room = _only_in(step)
            if room is not None:
                self._only.setdefault(room, []).append(number)
        self._rooms: dict[RoomId, Evaluator] = {}
        self._asks_threads = any(step.subscribed is not None for step in self.steps)
        self._known: dict[tuple[int, bool, bool | None], Outcome | None] = {}

    def in_room(self, room_id: RoomId) -> Evaluator:
        """What remains of the plan in a room."""
        if not self._local:
            return self
        found = self._rooms.get(room_id)
        if found is None:
            if len(self._rooms) >= 1_000:
                self._rooms.clear()
            numbers = sorted([*self._everywhere, *self._only.get(fold(room_id), ())])
            found = self._rooms[room_id] = Evaluator(
                _in_room([self.steps[each] for each in numbers], room_id), self.threads
            )
        return found

    def by_fact(self, bits: int, mentioned: bool, thread: str | None = None) -> Outcome | None:
        """What becomes of an event with these facts; None: look into it (`decide`). `thread`: the root of the thread it is in;
        None or `main`: it is in none.
        """
        key = (bits, mentioned, self._subscribed(thread))
        try:
            return self._known[key]
        except KeyError:
            outcome = self._known[key] = self._walk(*key)
            return outcome

    def decide(self, context: EvaluationContext, facts: Facts, mentioned: bool) -> Outcome:
        """As `by_fact`, with the event at hand."""
        step = self.step(context, facts, mentioned)
        return SILENT if step is None else step.outcome

    def step(self, context: EvaluationContext, facts: Facts, mentioned: bool) -> Step | None:
        """The rule that the event meets."""
        subscribed = self._subscribed(facts.thread)
        for step in self.steps:
            if _fits(step, facts.bits, mentioned, subscribed) and (
                step.rule is None or step.rule.matches(context)
            ):
                return step
        return None

    def _subscribed(self, thread: str | None) -> bool | None:
        """None: there is no thread, or no rule asks."""
        if not self._asks_threads or thread is None or thread == "main":
            return None
        return thread in self.threads

    def _walk(self, bits: int, mentioned: bool, subscribed: bool | None) -> Outcome | None:
        for step in self.steps:
            if _fits(step, bits, mentioned, subscribed):
                return step.outcome if step.rule is None else None
        return SILENT


def _fits(step: Step, bits: int, mentioned: bool, subscribed: bool | None) -> bool:
    return (
        step.bits & bits == step.bits
        and (mentioned or not step.mention)
        and (step.subscribed is None or step.subscribed is subscribed)
    )


def _only_in(step: Step) -> str | None:
    """The room, folded, that a step is about; None: it may fit several."""
    if step.room is not None:
        return fold(step.room)
    return next((fold(pattern) for pattern in step.rooms if is_literal(pattern)), None)


def _in_room(steps: Sequence[Step], room_id: RoomId) -> Iterator[Step]:
    text, work = fold(room_id), WorkBudget(ROOM_WORK)
    for step in steps:
        if step.room in (None, room_id) and _all_match(step.rooms, text, work):
            yield step._replace(room=None, rooms=()) if step.room or step.rooms else step


def _all_match(patterns: Sequence[str], text: str, work: WorkBudget) -> bool:
    try:
        return all(_matches(pattern, text, work) for pattern in patterns)
    except OutOfWork:
        return False


def _matches(pattern: str, text: str, work: WorkBudget) -> bool:
    work.spend(PIECE_WORK * (pattern.count("*") + pattern.count("?")))
    return glob(pattern).matches(text, work)


def _until_certain(steps: Iterable[Step]) -> Iterator[Step]:
    """What comes after a step that always fits never has its turn."""
    for step in steps:
        yield step
        if step.is_certain:
            return


def make_evaluator(rules: Mapping[Kind, Sequence[Rule]], threads: Collection[str] = frozenset()) -> Evaluator:
    """`rules`: as `Ruleset.whole` gives them; `threads`: as `Evaluator` wants them."""
    steps = (
        _step(kind, rule)
        for kind in ALL_KINDS
        for rule in rules.get(kind, ())
        if rule.get("enabled", True) is True
    )
    return Evaluator((step for step in steps if step is not None), threads)


def _step(kind: Kind, rule: Rule) -> Step | None:
    """None for a rule that never matches."""
    actions, rule_id = rule.get("actions") or (), str(rule.get("rule_id"))
    outcome = outcome_of(actions)
    if rule.get("default"):
        # Their conditions are the specification's and cannot be changed; their actions can (PUSH-12).
        if rule_id in _NEVER:
            return None
        if rule_id in _DEFAULTS:
            return Step(outcome, _DEFAULTS[rule_id], rule_id == _USER_MENTION, actions=actions)
        if rule_id in (SUBSCRIBED_THREAD, UNSUBSCRIBED_THREAD):
            return Step(outcome, actions=actions, subscribed=rule_id == SUBSCRIBED_THREAD)
    if kind == "room":
        return Step(outcome, room=rule_id, actions=actions)
    if kind == "content":
        return Step(outcome, fact.BODY, rule=compile_rule(kind, rule), actions=actions)
    if kind == "sender":
        return Step(outcome, rule=compile_rule(kind, rule), actions=actions)
    return _own_step(kind, rule, Step(outcome, actions=actions))


def _own_step(kind: Kind, rule: Rule, step: Step) -> Step | None:
    """Conditions that facts answer are taken out; the rest is asked of the event. None for a rule that never matches."""
    bits, rooms = 0, []
    rest: list[Mapping[str, Any]] = []
    conditions = rule.get("conditions") or ()
    if len(conditions) > MAX_CONDITIONS:
        return None
    for condition in conditions:
        key, pattern = condition.get("key"), condition.get("pattern")
        match_ = (
            condition.get("kind") == "event_match"
            and isinstance(pattern, str)
            and len(pattern) <= MAX_PATTERN
        )
        if match_ and key == "room_id":
            rooms.append(str(pattern))
        elif match_ and key == "type" and is_literal(str(pattern)) and str(pattern).lower() in _TYPES:
            bits |= _TYPES[str(pattern).lower()]
        elif condition.get("kind") == "room_member_count" and condition.get("is") in ("2", "==2"):
            bits |= fact.TWO_MEMBERS
        else:
            if (match_ and key == "content.body") or condition.get("kind") == "contains_display_name":
                bits |= fact.BODY
            rest.append(condition)
    inner = compile_rule(kind, {**rule, "conditions": rest}) if rest else None
    return step._replace(bits=bits, rooms=tuple(rooms), rule=inner)
