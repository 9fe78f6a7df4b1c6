"""Kicks and bans that redact what their target has said (MSC4293; CHECKLIST 26)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homeserver.graph.write.ended_stays import EndedStay
from homeserver.matrix.ids import RoomId, UserId
from tests.support.background import jobs_done, shown, until_redacted
from tests.support.forks import Fork, receive, receive_together
from tests.support.graph import Process, process
from tests.support.server import Server
from tests.support.unread import meeting

FIELD = "org.matrix.msc4293.redact_events"
TEXT = {"msgtype": "m.text", "body": "oops"}
STRANGER = UserId("@other:three.example")


@pytest.mark.parametrize("act", ["kick", "ban"])
async def test_what_was_said_in_the_stay_is_redacted(server: Server, act: str) -> None:
    """Not what was said before an earlier leave. The event that ends the stay is the cause, and no redaction is sent."""
    flags = (await server.client.get("/_matrix/client/versions"))["unstable_features"]
    assert flags["org.matrix.msc4293"] is True
    room, (alice, bob, carol) = await meeting(server, "alice", "bob", "carol")
    before = await bob.send(room, "long ago")
    await bob.post("/rooms/{}/leave", room, json={})
    await bob.join(room)
    spam = [await bob.send(room, f"spam {n}") for n in range(3)]
    await bob.put("/profile/{}/displayname", bob.user_id, json={"displayname": "Robert"})
    spam.append(await bob.send(room, "more spam"))
    thumb = {"m.relates_to": {"rel_type": "m.annotation", "event_id": before, "key": "👍"}}
    spam.append(await bob.send_event(room, "m.reaction", thumb))
    kept = await carol.send(room, "not spam")
    assert (await carol.sync())["rooms"]["join"][room]["unread_notifications"]["notification_count"] == 0
    section = (await alice.sync())["rooms"]["join"][room]
    assert section["unread_notifications"]["notification_count"] == 6
    body = {"user_id": bob.user_id, "reason": "spam", FIELD: True}
    await alice.post("/rooms/{}/" + act, room, json=body)
    for event in await until_redacted(carol, room, spam):
        because = event["unsigned"]["redacted_because"]
        assert (because["type"], because["sender"], because["state_key"]) == (
            *("m.room.member", alice.user_id),
            bob.user_id,
        )
        assert because["content"]["reason"] == "spam"
        assert because["content"][FIELD] is True
    await jobs_done(server, "graph.redact_stay")
    assert (await shown(carol, room, before))["content"]["body"] == "long ago"
    assert (await shown(carol, room, kept))["content"]["body"] == "not spam"
    section = (await carol.sync(since=None))["rooms"]["join"][room]
    types = [event["type"] for event in section["timeline"]["events"]]
    assert "m.room.redaction" not in types
    said = [event for event in section["timeline"]["events"] if event["event_id"] in spam]
    assert said
    assert all(event["content"] == {} for event in said)


async def test_redacted_messages_are_no_longer_unread(server: Server) -> None:
    """RED-07, in memory as anew."""
    room, (alice, bob, carol) = await meeting(server, "alice", "bob", "carol")
    await alice.send(room, "hi")
    spam = await bob.send(room, "spam")
    counts = (await carol.sync())["rooms"]["join"][room]["unread_notifications"]
    assert counts["notification_count"] == 2
    await alice.post("/rooms/{}/ban", room, json={"user_id": bob.user_id, FIELD: True})
    await until_redacted(carol, room, [spam])
    await jobs_done(server, "graph.redact_stay")
    for since in (carol.since, None):
        counts = (await carol.sync(since=since))["rooms"]["join"][room]["unread_notifications"]
        assert counts["notification_count"] == 1


@pytest.mark.parametrize("flag", [False, None])
async def test_without_the_flag_nothing_is_redacted(server: Server, flag: bool | None) -> None:
    room, (alice, bob) = await meeting(server, "alice", "bob")
    said = await bob.send(room, "hello")
    body = {"user_id": bob.user_id} | ({} if flag is None else {FIELD: flag})
    await alice.post("/rooms/{}/ban", room, json=body)
    await jobs_done(server, "graph.redact_stay")
    assert (await shown(alice, room, said))["content"]["body"] == "hello"


@pytest.mark.parametrize("levels", [{"redact": 60}, {"events": {"m.room.redaction": 60}}])
async def test_who_may_not_redact_does_not(server: Server, levels: dict[str, Any]) -> None:
    """By the redact level and that of m.room.redaction; the ban stands."""
    room, (alice, mod, bob) = await meeting(server, "alice", "mod", "bob")
    power = await alice.get("/rooms/{}/state/m.room.power_levels", room)
    events = {**power["events"], **levels.get("events", {})}
    power = {**power, **levels, "users": {**power["users"], mod.user_id: 50}, "events": events}
    await alice.put_state(room, "m.room.power_levels", power)
    said = await bob.send(room, "hello")
    await mod.post("/rooms/{}/ban", room, json={"user_id": bob.user_id, FIELD: True})
    await jobs_done(server, "graph.redact_stay")
    assert (await shown(alice, room, said))["content"]["body"] == "hello"


async def test_leaving_oneself_and_unbanning_redact_nothing(server: Server) -> None:
    room, (alice, bob) = await meeting(server, "alice", "bob")
    said = await bob.send(room, "hello")
    await bob.put_state(room, "m.room.member", {"membership": "leave", FIELD: True}, bob.user_id)
    await alice.post("/rooms/{}/ban", room, json={"user_id": bob.user_id, FIELD: True})
    away = {"membership": "leave", FIELD: True}
    await alice.put_state(room, "m.room.member", away, bob.user_id)
    await jobs_done(server, "graph.redact_stay")
    assert (await shown(alice, room, said))["content"]["body"] == "hello"


async def test_the_flag_is_a_boolean(server: Server) -> None:
    room, (alice, bob) = await meeting(server, "alice", "bob")
    reply = await alice.post("/rooms/{}/ban", room, json={"user_id": bob.user_id, FIELD: "yes"}, expect=400)
    assert reply["errcode"] == "M_BAD_JSON"


async def test_what_comes_late_is_redacted_as_it_comes(database: str, tmp_path: Path) -> None:
    """Of another server's user: soft failed as before, and only the stripped form is stored."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, preset="public_chat")
        branch = (await Fork.of(here, room_id)).branch()
        branch.says(STRANGER, "m.room.member", STRANGER, {"membership": "join"})
        await receive(here, *branch.events)
        late = (await Fork.of(here, room_id)).branch()
        event = late.says(STRANGER, "m.room.message", None, {"msgtype": "m.text", "body": "oops"})
        await here.rooms.membership.ban(alice, room_id, STRANGER, fields={FIELD: True})
        await receive(here, event)
        async with here.core.db.read() as tx:
            row = await tx.one(
                "SELECT pdu, flags, redacted_by IS NOT NULL FROM events WHERE event_id = %(id)s",
                id=event.event_id,
            )
        assert row is not None
        assert b"oops" not in row[0]
        assert row[1:] == (2, True)


async def carried_out(here: Process, room_id: RoomId, target: UserId) -> None:
    """The job of the membership event that ended a stay, as it is done by whichever process."""
    room = await here.core.rooms.latest((await here.core.rooms.known(room_id)).name.nid)
    await here.core.ended_stays.redact(EndedStay(room.members[target].event_nid))


async def stored(here: Process, event_id: str) -> tuple[bytes, bool]:
    """JSON, and whether it is redacted."""
    async with here.core.db.read() as tx:
        row = await tx.one(
            "SELECT pdu, redacted_by IS NOT NULL FROM events WHERE event_id = %(id)s AND moved_to IS NULL",
            id=event_id,
        )
    assert row is not None
    return row[0], row[1]


async def test_other_processes_serve_the_stripped_form_and_twice_does_no_harm(
    database: str, tmp_path: Path
) -> None:
    async with process(database, tmp_path) as here, process(database, tmp_path, alone=False) as there:
        alice = await here.user("alice")
        room_id = await here.room(alice, preset="public_chat")
        branch = (await Fork.of(here, room_id)).branch()
        branch.says(STRANGER, "m.room.member", STRANGER, {"membership": "join"})
        said = [branch.says(STRANGER, "m.room.message", None, {**TEXT, "n": n}) for n in range(120)]
        await receive_together(here, room_id, *branch.events)
        await there.core.tail.fresh()
        known = await there.core.events.by_id(said[0].event_id)
        assert known is not None
        await here.rooms.membership.ban(alice, room_id, STRANGER, fields={FIELD: True})
        position = here.core.tail.position
        await carried_out(here, room_id, STRANGER)
        written = here.core.tail.position - position
        await carried_out(there, room_id, STRANGER)
        assert here.core.tail.position - position == written, "nothing is left to be done"
        await there.core.tail.fresh()
        assert known.redaction is not None
        assert known.event.content == {}
        for event in said:
            pdu, redacted = await stored(here, event.event_id)
            assert redacted
            assert b"oops" not in pdu


async def test_what_comes_together_with_the_ban_is_redacted(database: str, tmp_path: Path) -> None:
    """It soft fails, and the job finds it."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, preset="public_chat")
        branch = (await Fork.of(here, room_id)).branch()
        branch.says(STRANGER, "m.room.member", STRANGER, {"membership": "join"})
        await receive(here, *branch.events)
        fork = await Fork.of(here, room_id)
        spoken, banning = fork.branch(), fork.branch()
        late = spoken.says(STRANGER, "m.room.message", None, TEXT)
        ban = banning.says(alice.user_id, "m.room.member", STRANGER, {"membership": "ban", FIELD: True})
        await receive_together(here, room_id, ban, late)
        await carried_out(here, room_id, STRANGER)
        pdu, redacted = await stored(here, late.event_id)
        assert redacted
        assert b"oops" not in pdu


@pytest.mark.parametrize("flag", [True, False])
async def test_history_of_the_stay_that_is_found_later_is_redacted(
    database: str, tmp_path: Path, flag: bool
) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, preset="public_chat")
        branch = (await Fork.of(here, room_id)).branch()
        branch.says(STRANGER, "m.room.member", STRANGER, {"membership": "join"})
        await receive(here, *branch.events)
        branch = (await Fork.of(here, room_id)).branch()
        missing = branch.says(STRANGER, "m.room.message", None, TEXT)
        state = [each.event_id for each in branch.state.values()]
        behind = branch.says(alice.user_id, "m.room.message", None, {**TEXT, "body": "behind"})
        await receive_together(here, room_id, behind, states={behind.event_id: state})
        await here.rooms.membership.ban(alice, room_id, STRANGER, fields={FIELD: True} if flag else {})
        room = await here.core.rooms.known(room_id)
        assert await here.core.backfill.add(room.name.nid, [missing], state)
        pdu, redacted = await stored(here, missing.event_id)
        assert (redacted, b"oops" in pdu) == (flag, not flag)
