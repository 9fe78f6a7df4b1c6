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
    await alice.put(RULE, "content", "a\\b", json=rule, expect=(400, "M_INVALID_PARAM"))
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
    """PUSH-13, PUSH-09: old actions are dropped, not refused."""
    alice = await server.register("alice")
    await alice.sync()
    await alice.put(RULE, "content", "word", json={"pattern": "word", "actions": ["dont_notify"]})
    events = (await alice.sync())["account_data"]["events"]
    [told] = [event["content"] for event in events if event["type"] == "m.push_rules"]
    [rule] = told["global"]["content"]
    assert (rule["rule_id"], rule["actions"], rule["enabled"]) == ("word", [], True)
    await alice.put(
        RULE, "content", "word", json={"pattern": "w", "actions": ["ring"]}, expect=(400, "M_INVALID_PARAM")
    )
