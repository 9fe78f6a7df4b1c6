"""A plan over the facts of events decides as the rules do, whatever the rules and the events (PUSH-01 to PUSH-08)."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeserver.events.content.power_levels import PowerLevels
from homeserver.events.event import Event
from homeserver.events.push_facts import facts_of, marks_unread, mentioned_users
from homeserver.events.push_rules import SILENT, Around, CompiledRules, EvaluationContext
from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.matrix.ids import UserId
from homeserver.push.defaults import KINDS, default_rules
from homeserver.push.evaluator import make_evaluator
from homeserver.push.evaluators import DEFAULT_EVALUATOR
from homeserver.push.ruleset import Changed, Ruleset
from tests.support import pdus
from tests.support.factory import ALICE, BOB, CAROL, RoomFactory

ME, NUMBER = UserId(BOB), 7
ROOM = RoomFactory("11")
LEVELS = PowerLevels({"users": {ALICE: 50}}, ROOM_VERSIONS["11"])
DEFAULT_IDS = [rule["rule_id"] for rules in default_rules(ME).values() for rule in rules]

types = st.sampled_from(
    [
        *("m.room.message", "m.room.encrypted", "m.reaction", "m.call.invite", "m.room.member"),
        *("m.room.tombstone", "m.room.server_acl", "com.example.x", "M.Room.Message"),
        *("m.room.topic", "m.room.name", "m.room.avatar", "M.Room.Encrypted"),
    ]
)
words = st.sampled_from(["hello", "coffee", "Hello Bob", "", "more COFFEE", "m.notice", "bob"])
contents = st.fixed_dictionaries(
    {},
    optional={
        "body": words | st.integers(),
        "msgtype": st.sampled_from(["m.text", "m.notice", "M.Notice", 5]),
        "membership": st.just("join"),
        "m.mentions": st.sampled_from(
            [{"user_ids": [BOB]}, {"user_ids": [CAROL]}, {"room": True}, {"room": 1}, {"user_ids": BOB}, 5]
        ),
        "m.relates_to": st.sampled_from([{"rel_type": "m.replace"}, {"rel_type": "m.thread"}, "x"]),
    },
)
events = st.builds(
    lambda kind, content, by, key: ROOM.draft(kind, content, by=by, key=key),
    types,
    contents,
    st.sampled_from([ALICE, CAROL]),
    st.sampled_from([None, None, "", CAROL]),
)
actions: st.SearchStrategy[list[Any]] = st.sampled_from(
    [[], ["notify"], ["notify", {"set_tweak": "highlight"}]]
)
conditions = st.sampled_from(
    [
        {"kind": "event_match", "key": "room_id", "pattern": ROOM.room_id},
        {"kind": "event_match", "key": "room_id", "pattern": "!elsewhere*"},
        {"kind": "event_match", "key": "type", "pattern": "m.room.message"},
        {"kind": "event_match", "key": "type", "pattern": "m.room.*"},
        {"kind": "event_match", "key": "content.body", "pattern": "coffee"},
        {"kind": "event_match", "key": "sender", "pattern": CAROL},
        {"kind": "room_member_count", "is": "2"},
        {"kind": "room_member_count", "is": ">2"},
        {"kind": "contains_display_name"},
        {"kind": "sender_notification_permission", "key": "room"},
        {"kind": "com.example.unknown"},
    ]
)


@st.composite
def rulesets(draw: st.DrawFn) -> Ruleset:
    ruleset = Ruleset()
    for number in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(KINDS))
        rule: dict[str, Any] = {"rule_id": f"r{number}", "default": False, "actions": draw(actions)}
        rule["enabled"] = draw(st.booleans())
        if kind in ("override", "underride"):
            rule["conditions"] = draw(st.lists(conditions, max_size=3))
        elif kind == "content":
            rule["pattern"] = draw(st.sampled_from(["coffee", "b?b", "*"]))
        elif kind == "room":
            rule["rule_id"] = draw(st.sampled_from([ROOM.room_id, "!other:one.example", "!*"]))
        else:
            rule["rule_id"] = draw(st.sampled_from([ALICE, CAROL]))
        ruleset.put(kind, rule, before=None, after=None)
    for rule_id in draw(st.lists(st.sampled_from(DEFAULT_IDS), max_size=3)):
        ruleset.changed[rule_id] = Changed(draw(st.none() | st.booleans()), draw(st.none() | actions))
    return ruleset


@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # on a busy machine, too
@given(rulesets(), events, st.sampled_from([1, 2, 3]))
def test_plans_decide_as_rules_do(ruleset: Ruleset, event: Event, members: int) -> None:
    around = Around(members, LEVELS, "Bob")
    rule = CompiledRules(ruleset.whole(ME)).decide(event, around)
    mentioned = BOB in mentioned_users(event)
    facts = facts_of(
        event,
        member_count=members,
        levels=LEVELS,
        thread=None,
        mentions=(NUMBER,) if mentioned else (),
    )
    evaluator = make_evaluator(ruleset.whole(ME)).in_room(ROOM.room_id)
    expected = rule.outcome if rule else SILENT
    assert evaluator.decide(EvaluationContext(event, around), facts, mentioned) == expected
    assert evaluator.by_fact(facts.bits, mentioned) in (None, expected)
    if evaluator.by_facts:
        assert evaluator.by_fact(facts.bits, mentioned) == expected
    if evaluator.silent:
        assert not expected.notify


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events, st.sampled_from([1, 2]))
def test_facts_tell_what_marks_a_room_as_unread(event: Event, members: int) -> None:
    """spec: MSC2654 "Unread events"."""
    content, relation = event.content, event.content.get("m.relates_to")
    eligible = [
        isinstance(content.get("body"), str) and content["body"] != "",
        event.state_key is not None
        and event.type in ("m.room.name", "m.room.topic", "m.room.avatar", "m.room.tombstone"),
        event.type == "m.room.encrypted",
    ]
    excluded = [
        isinstance(relation, dict) and relation.get("rel_type") == "m.replace",
        (event.type, event.state_key, content.get("msgtype")) == ("m.room.message", None, "m.notice"),
    ]
    facts = facts_of(event, member_count=members, levels=LEVELS, thread=None, mentions=())
    assert marks_unread(facts.bits) is (any(eligible) and not any(excluded))
    assert 0 <= facts.bits < 1 << 15, "a smallint"


@given(events)
def test_everybody_with_the_default_rules_shares_one_plan(event: Event) -> None:
    assert make_evaluator(default_rules(ME)).steps == DEFAULT_EVALUATOR.steps
    assert DEFAULT_EVALUATOR.by_facts
    assert DEFAULT_EVALUATOR.in_room(event.room_id) is DEFAULT_EVALUATOR


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
KNOWN = ["event_match", "event_property_is", "event_property_contains", "room_member_count"]
hostile = st.fixed_dictionaries(
    {"kind": st.sampled_from(KNOWN) | anything},
    optional={
        "key": st.sampled_from(["content.body", "room_id", "type", ""]) | anything,
        **dict.fromkeys(("pattern", "value", "is"), anything),
    },
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(hostile, max_size=3), contents | st.dictionaries(st.text(max_size=5), anything, max_size=3))
def test_no_rule_and_no_content_is_too_strange(rules: list[dict[str, Any]], content: dict[str, Any]) -> None:
    """PUSH-07: what cannot be understood never matches."""
    ruleset = Ruleset()
    rule = {"rule_id": "r", "default": False, "enabled": True, "actions": ["notify"], "conditions": rules}
    ruleset.put("override", rule, before=None, after=None)
    event = pdus.event("5", content=content)
    facts = facts_of(event, member_count=2, levels=LEVELS, thread=None, mentions=())
    evaluator = make_evaluator(ruleset.whole(ME)).in_room(event.room_id)
    around = Around(2, LEVELS, "Bob")
    found = CompiledRules(ruleset.whole(ME)).decide(event, around)
    mentioned = BOB in mentioned_users(event)
    assert evaluator.decide(EvaluationContext(event, around), facts, mentioned) == (
        found.outcome if found else SILENT
    )
