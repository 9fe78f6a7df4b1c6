"""Push rules, evaluated: which rule an event meets for a user, and what it does. Pure.

Rules come as JSON, in the order they apply (`push/ruleset.py`). What they ask of the room beside the event is in `Around`.
Both the rules and the events are anybody's: evaluating them for one event has a budget of work (`EvaluationContext`), and a
rule that would need more than is left does not match.

spec: client-server-api/#push-rules (PUSH-01, PUSH-05 to PUSH-10)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from homeserver.events.content.power_levels import BadLevel, PowerLevels
from homeserver.events.event import Event
from homeserver.matrix.glob import STEP, OutOfWork, WorkBudget, fold, glob, has_word
from homeserver.matrix.property_path import split_path

KINDS: Final = ("override", "content", "room", "sender", "underride")
Rule = Mapping[str, Any]
_COUNT: Final = re.compile(r"(==|<=|>=|<|>)?([0-9]{1,15})", re.ASCII)
_NOTHING: Final = object()
_BODY: Final = ("content", "body")
MAX_CONDITIONS: Final = 100
"""Of a rule. One with more never matches."""
MAX_PATTERN: Final = 1024
"""Characters of a pattern, or of the path to what it is compared with. A condition with more never matches."""
EVENT_WORK: Final = 2**21
"""What rules may spend on one event (`glob.WorkBudget`): a thousand keywords in an ordinary message, thirty in the largest one;
some hundredths of a second at the very worst.
"""
PIECE_WORK: Final = 2 * STEP
"""What it costs to take a piece of a pattern apart."""


class Around(NamedTuple):
    """What rules ask of the room."""

    member_count: int
    """Joined members."""
    levels: PowerLevels | None = None
    display_name: str | None = None
    """The user's own in the room."""


class EvaluationContext:
    """One event that rules are asked about, with what asking may cost, and with what was found out on the way."""

    __slots__ = ("_read", "_texts", "around", "event", "work")

    def __init__(self, event: Event, around: Around, work: WorkBudget | None = None) -> None:
        self.event = event
        self.around = around
        self.work = WorkBudget(EVENT_WORK) if work is None else work
        self._texts: dict[tuple[str, ...], str | None] = {}
        self._read = False

    def value(self, path: tuple[str, ...]) -> object:
        """A property of the event (`property_of`). Raises `OutOfWork`."""
        if not self._read:
            self._read = True
            self.work.spend(len(self.event.content_json))
        self.work.spend(STEP * len(path))
        return property_of(self.event, path)

    def text(self, path: tuple[str, ...]) -> str | None:
        """A property without its case, if it is a string. Raises `OutOfWork`."""
        try:
            return self._texts[path]
        except KeyError:
            value = self.value(path)
            if isinstance(value, str):
                self.work.spend(len(value))
                value = fold(value)
            found = self._texts[path] = value if isinstance(value, str) else None
            return found


Condition = Callable[[EvaluationContext], bool]
"""Raises `OutOfWork`."""


class Outcome(NamedTuple):
    """What becomes of an event for the counts."""

    notify: bool
    highlight: bool


SILENT: Final = Outcome(False, False)


class CompiledRule(NamedTuple):
    """One enabled rule."""

    kind: str
    rule_id: str
    actions: Sequence[Any]
    outcome: Outcome
    conditions: tuple[Condition, ...]

    def matches(self, context: EvaluationContext) -> bool:
        """Whether all conditions hold; no, if nobody can afford to find out."""
        try:
            return all(condition(context) for condition in self.conditions)
        except OutOfWork:
            return False


class CompiledRules:
    """All enabled rules of a user, in order."""

    def __init__(self, rules: Mapping[Any, Sequence[Rule]]) -> None:
        """`rules`: kind -> rules, the most important first; the kinds in any order."""
        self.rules = [
            compile_rule(kind, rule)
            for kind in KINDS
            for rule in rules.get(kind, ())
            if rule.get("enabled", True)
        ]

    def decide(self, event: Event, around: Around) -> CompiledRule | None:
        """The first rule the event meets; None if it meets none, and does nothing then.

        One's own events notify nobody (PUSH-01): not asked here.
        """
        context = EvaluationContext(event, around)
        for rule in self.rules:
            if rule.matches(context):
                return rule
        return None


def compile_rule(kind: str, rule: Rule) -> CompiledRule:
    """A rule ready to be asked. What cannot be understood never matches. spec: #conditions-1"""
    rule_id = str(rule.get("rule_id", ""))
    if kind in ("override", "underride"):
        wanted = rule.get("conditions") or ()
        few = len(wanted) <= MAX_CONDITIONS
        conditions = tuple(compile_condition(condition) for condition in wanted) if few else (_never,)
    elif kind == "content":
        conditions = (_event_match("content.body", rule.get("pattern")),)
    elif kind == "room":
        conditions = (lambda context: context.event.room_id == rule_id,)
    elif kind == "sender":
        conditions = (lambda context: context.event.sender == rule_id,)
    else:
        conditions = (_never,)
    actions = rule.get("actions") or ()
    return CompiledRule(kind, rule_id, actions, outcome_of(actions), conditions)


def outcome_of(actions: Sequence[Any]) -> Outcome:
    """Whether actions notify, and highlight. spec: #actions (PUSH-09, PUSH-10)"""
    if "notify" not in actions:
        return SILENT
    highlight = any(
        isinstance(action, Mapping)
        and action.get("set_tweak") == "highlight"
        and action.get("value", True) is not False
        for action in actions
    )
    return Outcome(True, highlight)


def compile_condition(condition: Rule) -> Condition:
    """One condition; a kind nobody knows never matches (PUSH-07)."""
    match condition.get("kind"):
        case "event_match":
            return _event_match(condition.get("key"), condition.get("pattern"))
        case "event_property_is":
            return _property_is(condition.get("key"), condition.get("value", _NOTHING))
        case "event_property_contains":
            return _property_contains(condition.get("key"), condition.get("value", _NOTHING))
        case "contains_display_name":
            return _contains_display_name
        case "room_member_count":
            return _member_count(condition.get("is"))
        case "sender_notification_permission":
            return _sender_may_notify(condition.get("key"))
    return _never


def _never(context: EvaluationContext) -> bool:
    del context
    return False


class _Path:
    """The path to a property, taken apart when it is first asked for: most rules are read more often than asked."""

    __slots__ = ("_keys", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._keys: tuple[str, ...] | None = None

    def keys(self, work: WorkBudget) -> tuple[str, ...]:
        """Raises `OutOfWork`."""
        if self._keys is None:
            work.spend(STEP * (1 + self._text.count(".")))
            self._keys = tuple(split_path(self._text))
        return self._keys


def _path(key: object) -> _Path | None:
    return _Path(key) if isinstance(key, str) and len(key) <= MAX_PATTERN else None


def _event_match(key: object, pattern: object) -> Condition:
    """spec: a glob on the whole value; on `content.body` on words of it (PUSH-05)"""
    path = _path(key)
    if path is None or not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
        return _never
    in_words = key == ".".join(_BODY)

    def matches(context: EvaluationContext) -> bool:
        text = context.text(path.keys(context.work))
        if text is None:
            return False
        context.work.spend(PIECE_WORK * (pattern.count("*") + pattern.count("?")))
        compiled = glob(pattern)
        return compiled.matches_word(text, context.work) if in_words else compiled.matches(text, context.work)

    return matches


def _property_is(key: object, wanted: object) -> Condition:
    path = _path(key)
    if path is None or not _is_scalar(wanted):
        return _never
    return lambda context: _same(context.value(path.keys(context.work)), wanted)


def _property_contains(key: object, wanted: object) -> Condition:
    path = _path(key)
    if path is None or not _is_scalar(wanted):
        return _never

    def contains(context: EvaluationContext) -> bool:
        values = context.value(path.keys(context.work))
        if not isinstance(values, list):
            return False
        context.work.spend(STEP * len(values))
        return any(_same(value, wanted) for value in values)

    return contains


def _contains_display_name(context: EvaluationContext) -> bool:
    body, name = context.text(_BODY), context.around.display_name
    return body is not None and bool(name) and has_word(body, fold(name or ""), context.work)


def _member_count(wanted: object) -> Condition:
    found = _COUNT.fullmatch(wanted) if isinstance(wanted, str) else None
    if found is None:
        return _never
    sign, number = found[1] or "==", int(found[2])

    def counts(context: EvaluationContext) -> bool:
        count = context.around.member_count
        return {
            "==": count == number,
            "<": count < number,
            ">": count > number,
            "<=": count <= number,
            ">=": count >= number,
        }[sign]

    return counts


def _sender_may_notify(key: object) -> Condition:
    if not isinstance(key, str):
        return _never

    def may(context: EvaluationContext) -> bool:
        levels = context.around.levels
        return levels is not None and may_notify(levels, context.event.sender, key)

    return may


def may_notify(levels: PowerLevels, sender: str, key: str) -> bool:
    """Whether a sender's level suffices to notify everybody in this way; no, where a level is malformed."""
    try:
        return levels.user_level(sender) >= levels.notification_level(key)
    except BadLevel:
        return False


def property_of(event: Event, path: Sequence[str]) -> object:
    """A property of an event as clients see it; something that equals nothing in JSON if it is not there."""
    value: object
    match path[0]:
        case "content":
            value = event.content
        case "type" | "sender" | "room_id" | "event_id" | "origin_server_ts":
            value = getattr(event, path[0])
        case "state_key":
            value = _NOTHING if event.state_key is None else event.state_key
        case "redacts":
            value = event.redacts or _NOTHING
        case _:
            return _NOTHING
    for key in path[1:]:
        if not isinstance(value, Mapping) or key not in value:
            return _NOTHING
        value = value[key]
    return value


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, (str, int))


def _same(value: object, wanted: object) -> bool:
    """Equal without casts: 1 is not true (PUSH-06)."""
    return type(value) is type(wanted) and value == wanted
