"""Push rules, evaluated: CHECKLIST section 17."""

import time
from typing import Any

import pytest

from homeserver.events.content.power_levels import PowerLevels
from homeserver.events.event import Event
from homeserver.events.push_facts import facts_of
from homeserver.events.push_rules import (
    SILENT,
    Around,
    CompiledRules,
    EvaluationContext,
    Outcome,
    compile_condition,
    outcome_of,
)
from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import RoomId, UserId
from homeserver.push.defaults import KINDS, default_rules
from homeserver.push.evaluator import make_evaluator
from homeserver.push.ruleset import Changed, Ruleset, check_actions
from tests.support.factory import ALICE, BOB, RoomFactory
from tests.support.vectors import vectors

ME = UserId(BOB)
FEW, TWO = Around(5), Around(2)
HIGHLIGHT = ["notify", {"set_tweak": "highlight"}]
MESSAGE = "m.room.message"


def event(
    kind: str = MESSAGE, content: dict[str, Any] | None = None, key: str | None = None, by: str = ALICE
) -> Event:
    return RoomFactory("12").draft(
        kind, {"msgtype": "m.text", "body": "hi"} if content is None else content, by=by, key=key
    )


def holds(condition: dict[str, Any], what: Event, around: Around = FEW) -> bool:
    return compile_condition(condition)(EvaluationContext(what, around))


def decided(rules: Ruleset, what: Event, around: Around = FEW) -> str | None:
    rule = CompiledRules(rules.whole(ME)).decide(what, around)
    return rule.rule_id if rule else None


def test_push_03_push_04_the_defaults_are_those_of_the_specification() -> None:
    """PUSH-03, PUSH-04: order, conditions, actions; the old mention rules are gone."""
    given = vectors("push_rules_default")
    placeholder = given["placeholder"]

    def mine(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: mine(each) for key, each in value.items()}
        if isinstance(value, list):
            return [mine(each) for each in value]
        return ME if value == placeholder else value

    assert list(KINDS) == given["kind_order"]
    assert {kind: mine(given[kind]) for kind in KINDS} == default_rules(ME)


@pytest.mark.parametrize(
    ("what", "around", "rule", "outcome"),
    [
        (event(), FEW, ".m.rule.message", Outcome(True, False)),
        (event(), TWO, ".m.rule.room_one_to_one", Outcome(True, False)),
        (event("m.room.encrypted", {}), FEW, ".m.rule.encrypted", Outcome(True, False)),
        (event("m.room.encrypted", {}), TWO, ".m.rule.encrypted_room_one_to_one", Outcome(True, False)),
        (event("m.call.invite", {}), FEW, ".m.rule.call", Outcome(True, False)),
        (event(content={"msgtype": "m.notice", "body": "x"}), TWO, ".m.rule.suppress_notices", SILENT),
        (event("m.reaction", {}), FEW, ".m.rule.reaction", SILENT),
        (event(content={"m.relates_to": {"rel_type": "m.replace"}}), FEW, ".m.rule.suppress_edits", SILENT),
        (
            event(content={"m.mentions": {"user_ids": [ALICE, ME]}}),
            FEW,
            ".m.rule.is_user_mention",
            Outcome(True, True),
        ),
        (
            event("m.room.member", {"membership": "invite"}, ME),
            FEW,
            ".m.rule.invite_for_me",
            Outcome(True, False),
        ),
        (event("m.room.member", {"membership": "join"}, ME), FEW, ".m.rule.member_event", SILENT),
        (event("m.room.tombstone", {}, ""), FEW, ".m.rule.tombstone", Outcome(True, True)),
        (event("m.room.tombstone", {}), FEW, None, None),
        (event("m.room.server_acl", {}, ""), FEW, ".m.rule.room.server_acl", SILENT),
        (event("m.room.topic", {}, ""), FEW, None, None),
    ],
)
def test_push_03_what_the_defaults_say(
    what: Event, around: Around, rule: str | None, outcome: Outcome | None
) -> None:
    """PUSH-01, PUSH-03: the first rule that matches decides; none matches: nothing happens."""
    found = CompiledRules(default_rules(ME)).decide(what, around)
    assert (found.rule_id if found else None, found.outcome if found else None) == (rule, outcome)


@pytest.mark.parametrize(("level", "heard"), [(49, False), (50, True)])
def test_push_07_who_may_mention_the_room(level: int, heard: bool) -> None:
    """PUSH-07: the level `notifications.room`, 50 by default."""
    levels = PowerLevels({"users": {ALICE: level}}, ROOM_VERSIONS["11"])
    what = event(content={"m.mentions": {"room": True}})
    found = CompiledRules(default_rules(ME)).decide(what, Around(5, levels))
    assert found is not None
    assert (found.rule_id == ".m.rule.is_room_mention") is heard
    assert holds({"kind": "sender_notification_permission", "key": "room"}, what, FEW) is False
    lower = PowerLevels({"users": {ALICE: 49}, "notifications": {"room": 10}}, ROOM_VERSIONS["11"])
    assert holds({"kind": "sender_notification_permission", "key": "room"}, what, Around(5, lower))
    broken = PowerLevels({"notifications": {"room": []}}, ROOM_VERSIONS["11"])
    assert not holds({"kind": "sender_notification_permission", "key": "room"}, what, Around(5, broken))


def test_push_05_push_06_the_vectors_of_the_specification() -> None:
    """PUSH-05, PUSH-06."""
    for case in vectors("glob")["cases"]:
        name = case["key"].removeprefix("content.").replace("\\.", ".")
        condition = {"kind": case["kind"], "key": case["key"]}
        condition |= {"pattern": case["pattern"]} if "pattern" in case else {"value": case["expected"]}
        assert holds(condition, event(content={name: case["value"]})) is case["match"], case


@pytest.mark.parametrize(
    ("key", "pattern", "match"),
    [
        ("type", "m.room.*", True),
        ("type", "M.ROOM.MESSAGE", True),
        ("sender", "@alice:*", True),
        ("state_key", "", False),
        ("content", "*", False),
        ("content.body.x", "*", False),
        ("content.nothing", "*", False),
        ("hashes.sha256", "*", False),
        (7, "*", False),
        ("type", None, False),
    ],
)
def test_push_05_only_text_that_is_there_matches(key: Any, pattern: Any, match: bool) -> None:
    """PUSH-05: an event without `state_key` has none."""
    assert holds({"kind": "event_match", "key": key, "pattern": pattern}, event()) is match


@pytest.mark.parametrize(
    ("value", "wanted", "match"),
    [(1, 1, True), (1, True, False), (True, 1, False), (None, None, True), ("1", 1, False), ([], [], False)],
)
def test_push_06_properties_are_compared_without_casts(value: Any, wanted: Any, match: bool) -> None:
    """PUSH-06."""
    what = event(content={"x": value, "list": [value]})
    assert holds({"kind": "event_property_is", "key": "content.x", "value": wanted}, what) is match
    assert holds({"kind": "event_property_contains", "key": "content.list", "value": wanted}, what) is match
    assert not holds({"kind": "event_property_contains", "key": "content.x", "value": wanted}, what)


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        *(("5", True), ("==5", True), ("<5", False), (">4", True), ("<=5", True), (">=6", False)),
        *(("=5", False), ("", False), ("five", False), (5, False), ("5 ", False)),
    ],
)
def test_push_07_member_counts(wanted: Any, match: bool) -> None:
    """PUSH-07."""
    assert holds({"kind": "room_member_count", "is": wanted}, event()) is match


@pytest.mark.parametrize(
    ("name", "match"),
    [("hi", True), ("HI", True), ("h", False), ("", False), (None, False), ("h*", False)],
)
def test_push_07_display_names(name: str | None, match: bool) -> None:
    """PUSH-07: still works for rules that are stored; a name is no pattern."""
    assert holds({"kind": "contains_display_name"}, event(), Around(5, None, name)) is match


def test_push_07_what_nobody_knows_never_matches() -> None:
    """PUSH-07."""
    for condition in ({"kind": "com.example.new"}, {}, {"kind": "event_property_is", "key": "type"}):
        assert not holds(condition, event())


def test_push_08_rules_of_the_simple_kinds() -> None:
    """PUSH-01, PUSH-08: kinds in their order, whatever order they were made in."""
    what, rules = event(content={"msgtype": "m.text", "body": "more coffee, please"}), Ruleset()
    steps: list[tuple[Any, str, dict[str, Any]]] = [
        ("underride", "mine", {"conditions": []}),
        ("sender", ALICE, {}),
        ("room", what.room_id, {}),
        ("content", "coffee", {"pattern": "coffee"}),
        ("override", "first", {"conditions": []}),
    ]
    for kind, rule_id, more in steps:
        rule = {"rule_id": rule_id, "default": False, "enabled": True, "actions": [], **more}
        rules.put(kind, rule, before=None, after=None)
        assert decided(rules, what) == rule_id
    for kind, rule_id, _ in reversed(steps):
        assert decided(rules, what) == rule_id
        rules.change(ME, kind, rule_id, enabled=False)
    assert decided(rules, what) == ".m.rule.message", "disabled rules are passed over (PUSH-01)"
    assert decided(rules, event(content={"body": "decoffeeinated"})) == ".m.rule.message"


def test_push_02_master_precedes_everything() -> None:
    """PUSH-02, PUSH-12."""
    rules = Ruleset(changed={".m.rule.master": Changed(enabled=True)})
    rule = {"rule_id": "mine", "default": False, "enabled": True, "actions": ["notify"], "conditions": []}
    rules.put("override", rule, before=None, after=None)
    assert decided(rules, event()) == ".m.rule.master"
    rules.changed.clear()
    assert decided(rules, event(content={"m.mentions": {"user_ids": [ME]}})) == "mine"


@pytest.mark.parametrize(
    ("actions", "outcome"),
    [
        ([], SILENT),
        (["notify"], Outcome(True, False)),
        (HIGHLIGHT, Outcome(True, True)),
        (["notify", {"set_tweak": "highlight", "value": True}], Outcome(True, True)),
        (["notify", {"set_tweak": "highlight", "value": False}], Outcome(True, False)),
        ([{"set_tweak": "highlight"}], SILENT),
        (["notify", {"set_tweak": "com.example.light", "value": 5}], Outcome(True, False)),
    ],
)
def test_push_10_tweaks(actions: list[Any], outcome: Outcome) -> None:
    """PUSH-10."""
    assert outcome_of(actions) == outcome


def test_push_09_old_actions_do_nothing() -> None:
    """PUSH-09: they are not refused, they stay in the rule of whoever wrote them, and count as nothing."""
    for actions in (["dont_notify"], ["coalesce"]):
        check_actions(actions)
        assert outcome_of(actions) == SILENT
    assert outcome_of(["notify", "coalesce", "dont_notify"]) == Outcome(True, False)
    with pytest.raises(InvalidParam):
        check_actions(["fly"])


def test_push_05_rules_that_cost_too_much_do_not_match() -> None:
    """PUSH-05: one event costs what it may cost, whatever the rules; those that facts answer are asked all the same."""
    rules = Ruleset()
    for number in range(900):
        hungry = {"rule_id": f"r{number}", "default": False, "enabled": True, "actions": []}
        hungry["pattern"] = "a" * 60 + f"b{number}" + "a" * 60
        rules.put("content", hungry, before=None, after=None)
    evaluator, what = (
        make_evaluator(rules.whole(ME)),
        event(content={"body": "a" * 60_000, "msgtype": "m.text"}),
    )
    facts = facts_of(what, member_count=5, levels=None, thread=None, mentions=())
    began = time.thread_time()
    context = EvaluationContext(what, FEW)
    assert evaluator.decide(context, facts, mentioned=False) == Outcome(True, False)
    assert context.work.left < 0
    assert time.thread_time() - began < 0.5
    assert evaluator.decide(EvaluationContext(event(), FEW), facts, mentioned=False) == Outcome(True, False)


def test_a_thousand_muted_rooms_cost_a_room_one_look() -> None:
    rules = Ruleset()
    for number in range(1_000):
        mute = {"rule_id": f"r{number}", "default": False, "enabled": True, "actions": []}
        mute["conditions"] = [{"kind": "event_match", "key": "room_id", "pattern": f"!{number}:one.example"}]
        rules.put("override", mute, before=None, after=None)
    evaluator = make_evaluator(rules.whole(ME))
    assert evaluator.in_room(RoomId("!7:one.example")).silent
    assert not evaluator.in_room(RoomId("!1001:one.example")).silent
    assert len(evaluator.in_room(RoomId("!1001:one.example")).steps) < 20
