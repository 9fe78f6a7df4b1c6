"""Keeping push rules: PUSH-04, PUSH-09, PUSH-11 to PUSH-13."""

from typing import Any

from tests.support.server import Server
from tests.support.user import User

RULE = "/pushrules/global/{}/{}"


async def own(user: User, kind: str = "content") -> list[str]:
    """One's own rules of a kind, in order."""
    rules = (await user.get("/pushrules/global/"))[kind]
    return [rule["rule_id"] for rule in rules if not rule["default"]]


async def test_ids_and_places_of_rules(server: Server) -> None:
    """PUSH-11."""
    alice = await server.register("alice")
    rule: dict[str, Any] = {"pattern": "x", "actions": ["notify"]}
    for name in ("a", "b", "c"):
        await alice.put(RULE, "content", name, json=rule)
    assert await own(alice) == ["c", "b", "a"], "the newest is the most important"
    assert (await alice.get(RULE, "content", "a"))["enabled"] is True
    await alice.put(RULE, "content", "d", json=rule, params={"after": "c"})
    await alice.put(RULE, "content", "a", json=rule, params={"before": "c"})
    assert await own(alice) == ["a", "c", "d", "b"]
    await alice.put(RULE, "content", "e", json=rule, params={"after": "nobody"}, expect=(404, "M_NOT_FOUND"))
    override: dict[str, Any] = {"conditions": [], "actions": []}
    await alice.put(
        RULE,
        "override",
        "e",
        json=override,
        params={"before": ".m.rule.message"},
        expect=(404, "M_NOT_FOUND"),
    )
    await alice.put(RULE, "content", ".a", json=rule, expect=(400, "M_INVALID_PARAM"))
    for bad in ("a\\b", "\\a", "a/b", "/a"):
        await alice.put(RULE, "content", bad, json=rule, expect=(400, "M_INVALID_PARAM"))
    await alice.delete(RULE, "content", "a")
    await alice.delete(RULE, "content", "a", expect=(404, "M_NOT_FOUND"))


async def test_defaults_are_changed_but_not_deleted(server: Server) -> None:
    """PUSH-12, PUSH-04."""
    alice = await server.register("alice")
    await alice.put(RULE + "/enabled", "underride", ".m.rule.message", json={"enabled": False})
    assert await alice.get(RULE + "/enabled", "underride", ".m.rule.message") == {"enabled": False}
    actions = {"actions": ["notify", {"set_tweak": "sound", "value": "ping"}]}
    await alice.put(RULE + "/actions", "underride", ".m.rule.message", json=actions)
    assert await alice.get(RULE + "/actions", "underride", ".m.rule.message") == actions
    await alice.delete(RULE, "underride", ".m.rule.message", expect=(404, "M_NOT_FOUND"))
    for gone in ("contains_display_name", "roomnotif"):
        await alice.get(RULE, "override", f".m.rule.{gone}", expect=(404, "M_NOT_FOUND"))
    await alice.get(RULE, "postcontent", "of a kind that came later", expect=(404, "M_NOT_FOUND"))


async def test_every_change_is_told(server: Server) -> None:
    """PUSH-13, PUSH-09: old actions are told back to whoever wrote them."""
    alice = await server.register("alice")
    await alice.sync()
    await alice.put(RULE, "content", "word", json={"pattern": "word", "actions": ["dont_notify"]})
    events = (await alice.sync())["account_data"]["events"]
    [told] = [event["content"] for event in events if event["type"] == "m.push_rules"]
    [rule] = told["global"]["content"]
    assert (rule["rule_id"], rule["actions"], rule["enabled"]) == ("word", ["dont_notify"], True)
    await alice.put(
        RULE, "content", "word", json={"pattern": "w", "actions": ["ring"]}, expect=(400, "M_INVALID_PARAM")
    )


async def test_rules_have_bounds(server: Server) -> None:
    """PUSH-11: in number, in size, and so that asking them costs little."""
    alice = await server.register("alice")
    match = {"kind": "event_match", "key": "content.body", "pattern": "x"}
    refused: list[tuple[str, dict[str, Any]]] = [
        ("override", {"conditions": [match] * 101}),
        ("override", {"conditions": [{**match, "pattern": "*" * 1025}]}),
        ("underride", {"conditions": [{**match, "key": "content." + "a." * 600}]}),
        ("content", {"pattern": "?" * 1025}),
    ]
    for kind, rule in refused:
        await alice.put(
            RULE, kind, "r", json={"actions": ["notify"], **rule}, expect=(400, "M_INVALID_PARAM")
        )
    large = {"actions": [{"set_tweak": "x", "value": "y" * 55_000}], "conditions": [match] * 100}
    await alice.put(RULE, "override", "r", json={**large, "more": "y" * 60_000}, expect=(413, "M_TOO_LARGE"))
    for number in range(4):
        await alice.put(RULE, "sender", f"@r{number}:localhost", json=large)
    await alice.put(RULE, "sender", "@r5:localhost", json=large, expect=(413, "M_TOO_LARGE"))
    await alice.put(RULE, "sender", "@r6:localhost", json={"actions": []})
