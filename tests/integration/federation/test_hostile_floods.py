"""Floods of what costs a server nothing to send: EDUs of every kind. What they take here is bounded, and others go on."""

import resource
import time
from typing import Any

from tests.integration.federation.test_hostile import good_one
from tests.integration.federation.test_send import joined
from tests.support.federation import Federation

TRANSACTIONS = 30
MIB = 1024
"""KiB, as `ru_maxrss` counts."""


def typing(room_id: str, user: str) -> Any:
    return {"edu_type": "m.typing", "content": {"room_id": room_id, "user_id": user, "typing": True}}


def receipt(room_id: str, user: str, event_id: str) -> Any:
    said = {"event_ids": [event_id], "data": {"ts": 1}}
    return {"edu_type": "m.receipt", "content": {room_id: {"m.read": {user: said}}}}


async def test_a_flood_of_edus(federation: Federation) -> None:
    """FED-29, FED-35: 3 000 EDUs, most of them about what is not here: nothing is written that nobody asked for, little memory is
    taken, and an event that comes after them is there at once.
    """
    here, alice, room = await joined(federation, presence={"enabled": True})
    bob, room_id = room.remote.user("bob"), room.room_id
    core = here.app.core
    await core.tail.fresh()
    position = core.tail.position
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    for txn in range(TRANSACTIONS):
        edus: list[Any] = []
        for number in range(14):
            nonce = txn * 100 + number
            stranger = room.remote.user(f"stranger{nonce}")
            edus += [
                typing(room_id, stranger),
                typing(f"!{nonce}:nowhere.test", bob),
                receipt(room_id, bob, f"${nonce:043d}"),
                receipt(room_id, stranger, f"${nonce:043d}"),
                {
                    "edu_type": "m.presence",
                    "content": {"push": [{"user_id": stranger, "presence": "online"}] * 500},
                },
                {"edu_type": f"org.example.{nonce}", "content": {"x": "y" * 10_000}},
                {"edu_type": "m.typing", "content": {"deep": [[[[[]]]]] * 1_000}},
            ]
        await room.send(edus=[*edus, typing(room_id, bob), typing(room_id, bob)])
    spent, after = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"3 000 EDUs: {spent * 1000:.0f} ms of CPU and {(after - before) / MIB:.0f} MiB more at most, both sides"
    )
    await core.tail.fresh()
    assert core.tail.position - position <= 2 * TRANSACTIONS
    assert after - before < 200 * MIB
    async with core.db.read() as tx:
        assert await tx.value("SELECT count(*) FROM receipts") <= 2
        assert await tx.value("SELECT count(*) FROM users WHERE user_id LIKE '@stranger%%'") == 0
    began = time.monotonic()
    await good_one(room)
    assert time.monotonic() - began < 20
    typing_now = [
        event["content"]["user_ids"]
        for event in (await alice.sync(since=None))["rooms"]["join"][room_id]["ephemeral"]["events"]
        if event["type"] == "m.typing"
    ]
    assert typing_now == [[bob]]


async def test_a_flood_of_devices(federation: Federation) -> None:
    """FED-30: a user whose server says they have ever more devices has a bounded number of them here."""
    from homeserver.e2ee.remote_lists import MAX_DEVICES

    here, alice, room = await joined(federation)
    bob = room.remote.user("bob")
    room.remote.answers(
        "GET",
        "/_matrix/federation/v1/user/devices/*",
        {
            "user_id": bob,
            "stream_id": 1,
            "devices": [{"device_id": f"A{n}", "keys": {}} for n in range(5_000)],
        },
    )
    for txn in range(15):
        edus = [
            {
                "edu_type": "m.device_list_update",
                "content": {
                    "user_id": bob,
                    "device_id": f"D{txn}_{number}",
                    "stream_id": txn * 100 + number + 2,
                    "prev_id": [txn * 100 + number + 1],
                },
            }
            for number in range(100)
        ]
        await room.send(edus=edus)
    await good_one(room)
    async with here.app.core.db.read() as tx:
        assert await tx.value("SELECT count(*) FROM remote_devices") <= MAX_DEVICES
    await alice.post("/keys/query", json={"device_keys": {bob: []}})
