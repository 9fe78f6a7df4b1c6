"""Keys of many people have changed since a client was here: what its sync reads does not grow with them."""

import pytest

from homeserver.rooms.memberships import Memberships
from tests.conftest import StartServer
from tests.support.crypto import DeviceCrypto

PEOPLE = 20


async def test_a_sync_after_many_changes_of_keys_looks_up_nobody_one_by_one(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SYNC-19"""
    server = await start_server()
    assert server.app is not None
    alice, friend = await server.register("alice"), await server.register("friend")
    room = await alice.create_room(preset="public_chat")
    await friend.join(room)
    await alice.sync()
    people = [friend, *[await server.register(f"stranger{number}") for number in range(PEOPLE)]]
    for person in people:
        await DeviceCrypto(person).upload(1)
    looked_up: list[int] = []
    of_memory = Memberships.of

    async def counted(self: Memberships, user_nid: int) -> object:
        looked_up.append(user_nid)
        return await of_memory(self, user_nid)

    monkeypatch.setattr(Memberships, "cached", lambda self, user_nid: None)
    monkeypatch.setattr(Memberships, "of", counted)
    reply = await alice.sync()
    assert reply["device_lists"]["changed"] == [friend.user_id]
    assert len(set(looked_up)) < PEOPLE / 2
