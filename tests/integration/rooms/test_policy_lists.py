"""Moderation policy lists: what they recommend is for clients and bots to do."""

from tests.support.server import Server


async def test_mod_05_a_policy_list_is_plain_state(server: Server) -> None:
    """Whatever the rules say, the server does nothing by them; they are kept and told as they are."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    rule = {"entity": bob.user_id, "recommendation": "m.ban", "reason": "a test"}
    for kind in ("user", "room", "server"):
        await alice.put_state(room, f"m.policy.rule.{kind}", rule, key="rule")
        assert await bob.state(room, f"m.policy.rule.{kind}", "rule") == rule
    await bob.send(room, "still here")
    assert (await alice.members(room))[bob.user_id] == "join"
    await alice.put_state(room, "m.policy.rule.user", {}, key="rule")
    assert await bob.state(room, "m.policy.rule.user", "rule") == {}
