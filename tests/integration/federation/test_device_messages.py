"""Messages to devices between servers: all of them, once, in order."""

import asyncio
from typing import Any

import pytest

from federation.devices import messages
from homeserver.to_device.entries import ToDeviceEntry
from homeserver.web.rate_limit import Rate
from tests.support.federation import Federation
from tests.support.outbound import until
from tests.support.remote_server import RemoteServer, status
from tests.support.server import Server
from tests.support.user import User
from tests.support.waiting import until as holds

SEND = "/_matrix/federation/v1/send/*"
TYPE = "org.example.note"


async def tell(user: User, txn: int, wanted: dict[str, Any], event_type: str = TYPE) -> None:
    await user.put("/sendToDevice/{}/{}", event_type, f"t{txn}", json={"messages": wanted})


async def heard(user: User, number: int) -> list[Any]:
    """So many messages."""
    found: list[Any] = []
    for _ in range(120):
        found += (await user.sync(timeout=500)).get("to_device", {}).get("events", [])
        if len(found) >= number:
            break
    return found


def edus(remote: RemoteServer) -> list[Any]:
    """Contents of EDUs, once for each transaction, in the order of their coming."""
    bodies = {asked.path: asked.json for asked in remote.requests("PUT", SEND)}
    return [edu["content"] for body in bodies.values() for edu in body["edus"]]


async def test_messages_come_in_order_and_to_all_devices(federation: Federation) -> None:
    """FED-34, TD-01, TD-02: between two servers that share no room; `*` is expanded where the devices are."""
    here, there = await federation.start(), await federation.start()
    alice, bob = await here.register("alice"), await there.register("bob")
    second = await bob.new_device()
    await bob.sync()
    await second.sync()
    for number in range(150):
        device = "*" if number == 75 else bob.device_id
        await tell(alice, number, {bob.user_id: {device: {"n": number}, "GONE": {"n": -1}}})
    await tell(alice, 149, {bob.user_id: {bob.device_id: {"n": 149}}})  # the same request again
    found = await heard(bob, 150)
    assert [event["content"]["n"] for event in found] == list(range(150))
    assert {event["sender"] for event in found} == {alice.user_id}
    assert {event["type"] for event in found} == {TYPE}
    assert [event["content"]["n"] for event in await heard(second, 1)] == [75]


async def test_nothing_is_lost_while_the_server_is_away(federation: Federation) -> None:
    """FED-34: refused, cut off, then back: all in order, each with an id of its own."""
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    answers: list[Any] = [status(500, {}), status(502, b"<html>")]
    remote.answers("PUT", SEND, lambda _: answers.pop(0) if answers else {"pdus": {}})
    large = "x" * 30_000
    for number in range(5):
        await tell(alice, number, {str(remote.user("bob")): {"D": {"n": number}}})
    devices = {f"D{number}": {"text": large} for number in range(7)}
    await tell(alice, 5, {str(remote.user("bob")): devices, str(remote.user("carol")): {"*": {"n": 5}}})
    await until(lambda: len(edus(remote)) == 9)
    told = edus(remote)
    assert [content["messages"] for content in told[:5]] == [
        {remote.user("bob"): {"D": {"n": number}}} for number in range(5)
    ]
    ids = [content["message_id"] for content in told]
    assert len(set(ids)) == len(ids)
    assert all(len(each) <= 32 for each in ids)
    assert [len(each["messages"].get(remote.user("bob"), {})) for each in told[5:]] == [2, 2, 2, 1]
    assert told[-1]["messages"][remote.user("carol")] == {"*": {"n": 5}}
    core = here.app.core  # type: ignore[union-attr]

    async def nothing_waits() -> bool:
        async with core.db.read() as tx:
            return not await tx.value("SELECT count(*) FROM federation_device_messages")

    await holds(nothing_waits)


def message(remote: RemoteServer, to: User, message_id: Any, **more: Any) -> dict[str, Any]:
    content = {
        "sender": remote.user("bob"),
        "type": TYPE,
        "message_id": message_id,
        "messages": {to.user_id: {to.device_id: {"id": message_id}}},
        **more,
    }
    return {"edu_type": "m.direct_to_device", "content": content}


async def send(remote: RemoteServer, here: Server, txn: str, *sent: Any) -> int:
    body = {"origin": remote.name, "origin_server_ts": 1, "pdus": [], "edus": list(sent)}
    return (await remote.ask(here, "PUT", f"/_matrix/federation/v1/send/{txn}", body))[0]


async def test_a_message_is_taken_once_and_what_is_wrong_is_not(federation: Federation) -> None:
    """FED-34, FED-29: by id of the origin, also in another transaction; senders of other servers and nonsense are dropped."""
    here, remote, other = await federation.start(), await federation.remote(), await federation.remote()
    alice = await here.register("alice")
    await alice.sync()
    wrong = [
        message(remote, alice, "w1", sender=alice.user_id),
        message(remote, alice, "w2", sender="bob"),
        message(remote, alice, "w3", sender=f"@bob:{other.name}"),
        message(remote, alice, "x" * 33),
        message(remote, alice, ""),
        message(remote, alice, "a\0b"),
        message(remote, alice, 5),
        message(remote, alice, "w4", type=None),
        message(remote, alice, "w5", messages={alice.user_id: {"*": 5}}),
        message(remote, alice, "w6", messages=[alice.user_id]),
        message(remote, alice, "w7", messages={"nobody": {"*": {}}}),
        message(remote, alice, "w8", messages={alice.user_id: {"*": {"text": "x" * 70_000}}}),
        message(remote, alice, "w9", messages={remote.user("carol"): {"*": {}}}),
    ]
    assert (
        await send(remote, here, "1", *wrong, message(remote, alice, "one"), message(remote, alice, "one"))
        == 200
    )
    assert await send(remote, here, "2", message(remote, alice, "one"), message(remote, alice, "two")) == 200
    assert await send(other, here, "2", message(other, alice, "one")) == 200
    found = await heard(alice, 3)
    assert [(event["content"]["id"], event["sender"]) for event in found] == [
        ("one", remote.user("bob")),
        ("two", remote.user("bob")),
        ("one", other.user("bob")),
    ]


async def test_messages_of_a_transaction_are_written_together(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FED-34: in order, once each, in few commits; what is wrong among them is passed over."""
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    await alice.sync()
    written: list[int] = []
    log = here.app.core.log
    transaction = log._transaction

    async def counted(appends: Any) -> Any:
        written.append(sum(isinstance(entry, ToDeviceEntry) for each in appends for entry in each.entries))
        return await transaction(appends)

    monkeypatch.setattr(log, "_transaction", counted)

    def message(number: int, **changes: Any) -> Any:
        content = {
            "sender": remote.user("bob"),
            "type": TYPE,
            "message_id": f"m{number}",
            "messages": {alice.user_id: {alice.device_id: {"n": number}}},
        }
        return {"edu_type": "m.direct_to_device", "content": content | changes}

    sent = [message(number) for number in range(90)]
    sent[40:40] = [
        message(3),
        message(91, sender="@eve:elsewhere.test"),
        message(92, messages={"x": {"D": {}}}),
    ]
    body = {"origin": remote.name, "origin_server_ts": 1, "edus": sent}
    for txn in ("one", "again"):
        code, _ = await remote.ask(here, "PUT", f"/_matrix/federation/v1/send/{txn}", body)
        assert code == 200
    found = await heard(alice, 90)
    assert [event["content"]["n"] for event in found] == list(range(90))
    assert sum(written) >= 90
    assert len([count for count in written if count]) <= 20, written


async def test_a_server_that_floods_is_told_to_come_again(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is lost: the transaction is not acknowledged, and what of it was taken is not taken twice."""
    monkeypatch.setattr(messages, "KILOBYTES_OF_SERVER", Rate(3, 20))
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    await alice.sync()
    sent = [message(remote, alice, f"m{number}") for number in range(8)]
    for each in sent:
        each["content"]["messages"][alice.user_id][alice.device_id]["text"] = "x" * 4_000
    assert await send(remote, here, "1", *sent[:4]) == 200
    assert await send(remote, here, "2", *sent[4:]) == 503
    async with asyncio.timeout(120):
        while await send(remote, here, "2", *sent[4:]) != 200:  # noqa: ASYNC110  # the server says nothing meanwhile
            await asyncio.sleep(7)  # until all of it may come at once
    assert [event["content"]["id"] for event in await heard(alice, 8)] == [f"m{n}" for n in range(8)]


async def test_what_waits_for_a_dead_server_is_bounded(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest go, perishable ones before all others."""
    monkeypatch.setattr(messages, "MOST_MESSAGES", 10)
    here = await federation.start()
    alice = await here.register("alice")
    dead = "@x:localhost:1"
    for number in range(15):
        kind = "m.room_key_request" if number == 14 else TYPE
        await tell(alice, number, {dead: {"D": {"n": number}}}, kind)
    core = here.app.core  # type: ignore[union-attr]
    edus_out = messages.DeviceMessageEdus(core.db)
    await edus_out.sweep()
    async with core.db.read() as tx:
        rows = await tx.column("SELECT content FROM federation_device_messages ORDER BY position")
    assert [b'"n":%d}' % number in row for number, row in zip(range(4, 14), rows, strict=True)] == [True] * 10
