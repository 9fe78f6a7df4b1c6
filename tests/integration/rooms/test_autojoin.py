"""Rooms every new account joins."""

from typing import Any


async def test_new_people_are_in_the_rooms_everybody_is_in(start_server: Any) -> None:
    server = await start_server(
        registration={"autojoin_rooms": ["#lobby:localhost", "#closed:localhost", "#missing:localhost"]}
    )
    founder = await server.register_exactly("founder")
    lobby = await founder.create_room(preset="public_chat", room_alias_name="lobby")
    await founder.create_room(room_alias_name="closed")
    alice = await server.register("alice")
    assert (await alice.get("/joined_rooms"))["joined_rooms"] == [lobby]
    guest = await server.client.post("/register", json={}, params={"kind": "guest"})
    members = await founder.members(lobby)
    assert members[alice.user_id] == "join"
    assert guest["user_id"] not in members
