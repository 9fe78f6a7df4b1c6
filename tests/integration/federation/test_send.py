"""Transactions of another server: what is answered, what is refused at once, and that each is processed once."""

import asyncio
from typing import Any

import pytest

from homeserver.matrix.ids import EventId
from tests.support.federation import Federation
from tests.support.remote_room import TEXT, RemoteRoom
from tests.support.server import Server
from tests.support.user import User

PUBLIC = {"preset": "public_chat"}


async def joined(
    federation: Federation, version: str = "12", **sections: Any
) -> tuple[Server, User, RemoteRoom]:
    """An Atrium, alice on it, and a room of hers that bob of another server is in."""
    here, remote = await federation.start(**sections), await federation.remote()
    alice = await here.register("alice")
    room_id = await alice.create_room(room_version=version, **PUBLIC)
    return here, alice, await RemoteRoom.join(here, remote, room_id, "bob")


async def shows(alice: User, room: RemoteRoom, body: str) -> None:
    await alice.sees(room.room_id, body)


@pytest.mark.parametrize("version", [str(number) for number in range(1, 13)])
async def test_messages_come_in_every_room_version(federation: Federation, version: str) -> None:
    """FED-08, FED-10."""
    _, alice, room = await joined(federation, version)
    events = room.chain("bob", 5)
    assert await room.send(*events) == {"pdus": {event.event_id: {} for event in events}}
    arrived = await room.arrives(*events)
    assert not any(persisted.flags for persisted in arrived)
    assert [each.nid for each in arrived] == sorted(each.nid for each in arrived)
    await shows(alice, room, "4")
    await room.drained()


async def test_a_transaction_is_processed_once(federation: Federation) -> None:
    """FED-09: also after the process has forgotten it, and while the first is under way."""
    here, _, room = await joined(federation)
    event = room.says("bob", "m.room.message", TEXT)
    first = await room.transact("same", event)
    assert await room.transact("same", event) == first
    other = room.says("bob", "m.room.message", TEXT)
    assert here.app is not None
    here.app.features.federation_inbound.transactions._answered.clear()
    assert await room.transact("same", other) == first  # told from the database; nothing is staged
    await room.arrives(event)
    assert other.event_id not in await room.core.events.places([other.event_id])
    events = room.chain("bob", 3, prev=[event])
    answers = await asyncio.gather(*(room.transact("at once", *events) for _ in range(3)))
    assert answers[0] == answers[1] == answers[2]


async def test_the_next_transaction_may_have_what_was_staged_already(federation: Federation) -> None:
    _, _, room = await joined(federation)
    event = room.says("bob", "m.room.message", TEXT)
    await asyncio.gather(room.send(event), room.send(event))
    await room.arrives(event)
    await room.send(event)
    await room.drained()


@pytest.mark.parametrize(("pdus", "edus", "code"), [(50, 100, 200), (51, 0, 400), (0, 101, 400)])
async def test_at_most_50_events_and_100_edus(
    federation: Federation, pdus: int, edus: int, code: int
) -> None:
    """FED-08."""
    here, remote = await federation.start(), await federation.remote()
    body = {"pdus": [{}] * pdus, "edus": [{"edu_type": "x", "content": {}}] * edus}
    status, _ = await remote.ask(here, "PUT", "/_matrix/federation/v1/send/1", body)
    assert status == code


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"pdus": None},
        {"pdus": {}},
        {"pdus": [], "edus": {}},
        {
            "pdus": [
                None,
                5,
                "x",
                [],
                {},
                {"room_id": 5},
                {"room_id": "x"},
                {"room_id": "!x:y", "event_id": []},
            ]
        },
        {"pdus": [], "edus": [None, 5, [], {}, {"edu_type": 5}, {"edu_type": "m.typing", "content": 5}]},
    ],
)
async def test_what_is_malformed_is_never_a_fault_of_ours(federation: Federation, body: Any) -> None:
    """Synapse answers 500 to some of these."""
    here, remote = await federation.start(), await federation.remote()
    status, answer = await remote.ask(here, "PUT", "/_matrix/federation/v1/send/1", body)
    assert status in {200, 400}, answer
    if status == 200:
        assert answer == {"pdus": {}}


async def test_who_does_not_sign_is_not_heard(federation: Federation) -> None:
    """FED-04."""
    here, remote = await federation.start(), await federation.remote()
    status, _ = await remote.ask(
        here, "PUT", "/_matrix/federation/v1/send/1", {"pdus": []}, headers={"X": "Y"}
    )
    assert status == 401


async def test_what_is_refused_at_once_is_told_by_event(federation: Federation) -> None:
    """FED-08: 200 all the same. Unknown rooms, rooms that all have left, malformed events."""
    _, alice, room = await joined(federation)
    good = room.says("bob", "m.room.message", TEXT)
    unknown = {**good.fields, "room_id": "!nowhere:else", "event_id": "$told:else"}
    malformed = {**good.fields, "depth": "deep", "event_id": "$malformed:else"}
    answer = await room.send(good, unknown, malformed)
    assert answer["pdus"][good.event_id] == {}
    assert "error" in answer["pdus"]["$told:else"]
    assert "error" in answer["pdus"]["$malformed:else"]
    await room.arrives(good)
    await room.drained()
    await alice.leave(room.room_id)
    late = room.says("bob", "m.room.message", TEXT)
    assert "error" in (await room.send(late))["pdus"][late.event_id]
    assert not await room.staged()


async def test_servers_that_a_room_denies_are_refused_per_event(federation: Federation) -> None:
    """ACL-03."""
    here, alice, room = await joined(federation)
    other_id = await alice.create_room(**PUBLIC)
    other = await RemoteRoom.join(here, room.remote, other_id, "bob")
    acl = {"allow": ["*"], "deny": [room.remote.name.partition(":")[0]]}
    await alice.put_state(room.room_id, "m.room.server_acl", acl)
    denied, taken = room.says("bob", "m.room.message", TEXT), other.says("bob", "m.room.message", TEXT)
    answer = await room.send(denied, taken)
    assert "access control list" in answer["pdus"][denied.event_id]["error"]
    assert answer["pdus"][taken.event_id] == {}
    await other.arrives(taken)
    await alice.put_state(room.room_id, "m.room.server_acl", {"allow": ["*"]})
    assert (await room.send(denied))["pdus"][denied.event_id] == {}
    await room.arrives(denied)


async def test_an_origin_has_a_bound_on_what_is_staged(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told to come back; what is staged of others is not its business."""
    from federation.inbound import transactions

    monkeypatch.setattr(transactions, "MAX_EVENTS", 10)
    here, _, room = await joined(federation)
    assert here.app is not None
    monkeypatch.setattr(here.app.features.federation_inbound.inbound, "_closing", True)  # nobody drains
    events = room.chain("bob", 12)
    await room.send(*events[:8])
    answer = await room.transact("too much", *events[8:], expect=429)
    assert answer["errcode"] == "M_LIMIT_EXCEEDED"
    assert await room.staged() == 8
    second = await federation.remote()
    other = RemoteRoom(here, second, room.room_id)
    await other.look()
    event = other.says("carol", "m.room.member", {"membership": "join"}, state_key=second.user("carol"))
    await other.send(event)
    monkeypatch.setattr(here.app.features.federation_inbound.inbound, "_closing", False)
    await room.arrives(*events[:8], event)
    await room.transact("too much", *events[8:])
    await room.arrives(*events)


async def test_one_origin_has_few_transactions_under_way(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _, room = await joined(federation)
    assert here.app is not None
    transactions = here.app.features.federation_inbound.transactions
    events = room.chain("bob", 6)
    go_on, process = asyncio.Event(), transactions._process

    async def slow(*args: Any) -> bytes:
        await go_on.wait()
        return await process(*args)

    monkeypatch.setattr(transactions, "_process", slow)

    async def send(number: int) -> int:
        uri = f"/_matrix/federation/v1/send/{number}"
        status, _ = await room.remote.ask(here, "PUT", uri, {"pdus": [dict(events[number].fields)]})
        return status

    tasks = [asyncio.create_task(send(number)) for number in range(6)]
    async with asyncio.timeout(60):
        while sum(task.done() for task in tasks) < 3:  # noqa: ASYNC110  # nobody here could set an event
            await asyncio.sleep(0.01)
    go_on.set()
    assert sorted(await asyncio.gather(*tasks)) == [200, 200, 200, 429, 429, 429]


async def test_old_answers_are_forgotten(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has a bound for each origin, and those who say nothing more vanish."""
    from federation.inbound import store

    monkeypatch.setattr(store, "REMEMBERED", 3)
    _, _, room = await joined(federation)
    for event in room.chain("bob", 8):
        await room.send(event)
    async with room.core.db.read() as tx:
        assert await tx.value("SELECT count(*) FROM federation_transactions") <= 4
    async with room.core.db.transaction() as tx:
        await tx.execute("UPDATE federation_transactions SET received_at = now() - interval '2 days'")
        assert await store.forget_transactions(tx) >= 3


async def test_redactions_are_applied_in_every_version(federation: Federation) -> None:
    """RED-02, FED-10: in versions 11 and 12 too (Dendrite does not)."""
    for version in ("1", "3", "10", "11", "12"):
        _, alice, room = await joined(federation, version)
        said = room.says("bob", "m.room.message", {**TEXT, "body": "taken back"})
        names = EventId(said.event_id)
        redaction = (
            room.says("bob", "m.room.redaction", {"redacts": names, "reason": "r"})
            if said.room_version.redacts_in_content
            else room.says("bob", "m.room.redaction", {"reason": "r"}, redacts=names)
        )
        await room.send(said, redaction)
        await room.arrives(said, redaction)
        event = await alice.event(room.room_id, said.event_id)
        assert "body" not in event["content"], version
        assert event["unsigned"]["redacted_because"]["event_id"] == redaction.event_id
