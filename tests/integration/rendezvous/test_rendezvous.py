"""Where two devices meet before one is logged in (MSC4388; CHECKLIST 3)."""

from __future__ import annotations

import pytest

from tests.conftest import StartServer

PLACES = "/_matrix/client/unstable/io.element.msc4388/rendezvous"
PLACE = PLACES + "/{}"
MISSING = (404, "M_NOT_FOUND")
CONCURRENT = (409, "IO_ELEMENT_MSC4388_CONCURRENT_WRITE")


async def test_two_devices_write_in_turns(start_server: StartServer) -> None:
    server = await start_server(auth={"rendezvous": "members"})
    alice, nobody = await server.register("alice"), server.client
    assert await nobody.get(PLACES) == {"create_available": False}
    assert await alice.get(PLACES) == {"create_available": True}
    await nobody.post(PLACES, json={"data": "x"}, expect=(403, "M_FORBIDDEN"))
    made = await alice.post(PLACES, json={"data": "from A"})
    assert 120_000 <= made["expires_in_ms"] <= 300_000
    place, first = made["id"], made["sequence_token"]
    found = await nobody.get(PLACE, place)
    assert (found["data"], found["sequence_token"]) == ("from A", first)
    write = {"sequence_token": first, "data": "from B"}
    second = (await nobody.put(PLACE, place, json=write))["sequence_token"]
    assert second != first
    assert (await nobody.put(PLACE, place, json=write))["sequence_token"] == second, "a repeat does nothing"
    late = {"sequence_token": first, "data": "too late"}
    await alice.put(PLACE, place, json=late, expect=CONCURRENT)
    await alice.put(PLACE, place, json={**late, "sequence_token": "no token"}, expect=CONCURRENT)
    same = {"sequence_token": second, "data": "from B"}
    third = (await alice.put(PLACE, place, json=same))["sequence_token"]
    assert third not in (first, second), "another write, though it says the same"
    assert (await nobody.get(PLACE, place))["data"] == "from B"
    headers = {"Sec-Fetch-Mode": "navigate"}
    await nobody.get(PLACE, place, headers=headers, expect=(403, "M_FORBIDDEN"))
    assert await nobody.delete(PLACE, place) == {}
    for method in (nobody.get, nobody.delete):
        await method(PLACE, place, expect=MISSING)
    await nobody.put(PLACE, place, json=write, expect=MISSING)


async def test_bounds(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await start_server(auth={"rendezvous": "everybody"})
    nobody = server.client
    assert await nobody.get(PLACES) == {"create_available": True}
    large = {"data": "ü" * 2049}
    await nobody.post(PLACES, json=large, expect=(413, "M_TOO_LARGE"))
    made = await nobody.post(PLACES, json={"data": "ü" * 2048})
    write = {**large, "sequence_token": made["sequence_token"]}
    await nobody.put(PLACE, made["id"], json=write, expect=(413, "M_TOO_LARGE"))
    await nobody.post(PLACES, json={"data": "\0"}, expect=(400, "M_INVALID_PARAM"))
    await nobody.post(PLACES, json={}, expect=400)
    monkeypatch.setattr("homeserver.rendezvous.service.MOST", 1)
    await nobody.post(PLACES, json={"data": "x"}, expect=(429, "M_LIMIT_EXCEEDED"))
    monkeypatch.setattr("homeserver.rendezvous.service.LIFETIME_MS", -1)
    await nobody.delete(PLACE, made["id"])
    over = await nobody.post(PLACES, json={"data": "over"})
    await nobody.get(PLACE, over["id"], expect=MISSING)


async def test_it_is_off_unless_it_is_wanted(start_server: StartServer) -> None:
    server = await start_server()
    await server.client.get(PLACES, expect=(404, "M_UNRECOGNIZED"))
    features = (await server.client.get("/_matrix/client/versions"))["unstable_features"]
    assert not features.get("io.element.msc4388", False), "without OAuth no device can sign in so"
    assert not features.get("org.matrix.msc4108", False)
