"""What clients ask of push beside the rules themselves."""

from tests.support.server import Server


async def test_there_are_no_pushers_at_first(server: Server) -> None:
    """Element shows no settings of notifications at all when this fails."""
    alice = await server.register("alice")
    assert await alice.get("/pushers") == {"pushers": []}
    await server.client.get("/pushers", expect=(401, "M_MISSING_TOKEN"))


async def test_the_rules_of_one_kind(server: Server) -> None:
    """PUSH-09: with the slash and without it."""
    alice = await server.register("alice")
    await alice.put("/pushrules/global/room/{}", "!r:localhost", json={"actions": []})
    whole = await alice.get("/pushrules/global/")
    for kind, rules in whole.items():
        for path in (f"/pushrules/global/{kind}/", f"/pushrules/global/{kind}"):
            answer = await alice.exchange("GET", path)
            assert answer.json == rules
    await alice.get("/pushrules/global/nothing/", expect=(404, "M_NOT_FOUND"))
