"""Plays: what the devices of people on two homeservers need of each other. Keys are signed as clients sign them."""

from __future__ import annotations

from tests.interop.shared_rooms import PATIENCE, Play, until
from tests.support.crypto import DeviceCrypto, changed_in, claim, query
from tests.support.partner import until_member
from tests.support.user import Event, User

MESSAGES = 30


async def messages_to_devices(play: Play) -> None:
    """To one device and to all, both ways: each arrives once, and in its order."""
    for actor, witness in play.both():
        second = await witness.new_device()
        for device in (witness, second):
            await device.sync()
        got: dict[str, list[Event]] = {witness.device_id: [], second.device_id: []}
        for number in range(MESSAGES):
            await to_device(actor, witness, witness.device_id, {"number": number})
        await to_device(actor, witness, "*", {"number": MESSAGES})
        await to_device(actor, witness, "NOSUCHDEVICE", {"number": -1})
        for device in (witness, second):
            await until_told(device, got[device.device_id], MESSAGES)
        assert {event["sender"] for event in got[witness.device_id]} == {actor.user_id}
        numbers = [event["content"]["number"] for event in got[witness.device_id]]
        in_order = list(range(MESSAGES + 1))
        if play.does("messages to devices in order", actor, witness):
            assert numbers == in_order
        assert sorted(numbers) == in_order
        assert [event["content"]["number"] for event in got[second.device_id]] == [MESSAGES]


async def to_device(actor: User, whom: User, device: str, content: Event) -> None:
    """One message."""
    messages = {whom.user_id: {device: content}}
    txn = f"{actor.device_id}-{device}-{content['number']}"
    await actor.put("/sendToDevice/{}/{}", "org.example.test", txn, json={"messages": messages})


async def until_told(device: User, got: list[Event], last: int) -> None:
    """Syncs until a message with this number has come; all are in `got` then."""

    def there(reply: Event) -> bool:
        events = reply.get("to_device", {}).get("events", [])
        got.extend(event for event in events if event["type"] == "org.example.test")
        return any(event["content"]["number"] == last for event in got)

    await device.sync_until(there, timeout=PATIENCE)


async def devices_and_keys(play: Play) -> None:
    """Keys are asked for and claimed, and who shares an encrypted room is told of each change of devices."""
    encryption = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    room = await play.room(initial_state=[encryption])
    await until_member(play.guest, room, play.owner.user_id, "join")
    for actor, witness in play.both():
        await witness.sync()
        keys = DeviceCrypto(actor)
        await keys.upload(2)
        await told_of_devices(witness, actor)
        assert await devices_of(actor, witness) == {actor.device_id}
        given = [await claim(witness, actor) for _ in range(2)]
        assert None not in given
        assert given[0] != given[1], "a one-time key was given twice"

        second = await actor.new_device()
        await DeviceCrypto(second).upload(1)
        await told_of_devices(witness, actor)
        await until_devices(actor, witness, {actor.device_id, second.device_id})
        await second.logout()
        await told_of_devices(witness, actor)
        await until_devices(actor, witness, {actor.device_id})


async def told_of_devices(witness: User, actor: User) -> None:
    """Until a sync says that somebody's devices have changed."""
    await witness.sync_until(lambda reply: actor.user_id in changed_in(reply), timeout=PATIENCE)


async def until_devices(actor: User, witness: User, devices: set[str]) -> None:
    """Until the query for somebody's keys answers these devices."""

    async def same() -> bool:
        return await devices_of(actor, witness) == devices

    await until(same, f"the devices of {actor.user_id} are {devices}")


async def devices_of(actor: User, witness: User) -> set[str]:
    """Whose keys are told."""
    answer = await query(witness, actor)
    assert answer.get("failures", {}) == {}
    return set(answer["device_keys"].get(actor.user_id, {}))
