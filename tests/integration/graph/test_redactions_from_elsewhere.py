"""Redactions that other servers send take effect when both events are here and the rules allow it, and are shown only then
(RED-02, RED-03, RED-04).
"""

from pathlib import Path
from typing import Any

import pytest

from homeserver.matrix.ids import RoomId, UserId
from homeserver.web.auth import Requester
from tests.support.forks import Branch, Fork, receive, state_of
from tests.support.graph import Process, process

MOD, MEMBER, STRANGER = (
    UserId("@mod:two.example"),
    UserId("@member:two.example"),
    UserId("@other:three.example"),
)
REDACTION = "m.room.redaction"


def redaction(branch: Branch, sender: str, target: str, version: str) -> Any:
    """From version 11 on the target stands in the content; before, the builder moves it to the top."""
    del version
    return branch.says(sender, REDACTION, None, {"redacts": target, "reason": "x"})


async def room_with_strangers(here: Process, alice: Requester, version: str) -> RoomId:
    room_id = await here.room(alice, preset="public_chat", room_version=version)
    branch = (await Fork.of(here, room_id)).branch()
    for user in (MOD, MEMBER, STRANGER):
        branch.says(user, "m.room.member", user, {"membership": "join"})
    await receive(here, *branch.events)
    levels = dict((await state_of(here, room_id))["m.room.power_levels", ""].content)
    levels |= {"users": {**levels["users"], MOD: 50}, "events": {**levels["events"], REDACTION: 0}}
    await here.rooms.sending.put_state(alice, room_id, ("m.room.power_levels", ""), levels)
    return room_id


async def shown(here: Process, who: Requester, room_id: str) -> dict[str, dict[str, Any]]:
    answer = await here.sync(who, filter={"room": {"timeline": {"limit": 100}}})
    return {event["event_id"]: event for event in answer["rooms"]["join"][room_id]["timeline"]["events"]}


versions = pytest.mark.parametrize("version", ["3", "10", "11", "12"])


@versions
@pytest.mark.parametrize("first", ["target", "redaction"])
@pytest.mark.parametrize("by", [MOD, MEMBER])
async def test_red_02_whichever_comes_first(
    database: str, tmp_path: Path, version: str, first: str, by: UserId
) -> None:
    """By level (a moderator), or because the target comes from the same server."""
    author = STRANGER if by is MOD else MOD
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await room_with_strangers(here, alice, version)
        fork = await Fork.of(here, room_id)
        spoken, taken_back = fork.branch(), fork.branch()
        target = spoken.says(author, "m.room.message", None, {"msgtype": "m.text", "body": "oops"})
        away = redaction(taken_back, by, target.event_id, version)
        if first == "target":
            await receive(here, target, away)
        else:
            await receive(here, away)
            assert away.event_id not in await shown(here, alice, room_id), "it waits"
            await receive(here, target)
        for _ in range(2):
            events = await shown(here, alice, room_id)
            assert events[target.event_id]["content"] == {}
            because = events[target.event_id]["unsigned"]["redacted_because"]
            assert because["event_id"] == away.event_id
            assert away.event_id in events
            here.core.rooms.reset()  # and now from the database
        async with here.core.db.read() as tx:
            assert await tx.all("SELECT * FROM waiting_redactions") == []
            kept = await tx.value("SELECT pdu FROM events WHERE event_id = %(id)s", id=target.event_id)
        assert b"oops" not in kept


@versions
@pytest.mark.parametrize("first", ["target", "redaction"])
async def test_red_02_who_may_not_redacts_nothing_and_is_not_shown(
    database: str, tmp_path: Path, version: str, first: str
) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await room_with_strangers(here, alice, version)
        fork = await Fork.of(here, room_id)
        spoken, taken_back = fork.branch(), fork.branch()
        target = spoken.says(MOD, "m.room.message", None, {"msgtype": "m.text", "body": "stays"})
        away = redaction(taken_back, STRANGER, target.event_id, version)
        await receive(here, *([target, away] if first == "target" else [away, target]))
        events = await shown(here, alice, room_id)
        assert events[target.event_id]["content"]["body"] == "stays"
        assert away.event_id not in events


async def test_red_02_events_of_another_room_are_out_of_reach(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        other = await here.room(alice)
        target = await here.send(alice, other, "elsewhere")
        room_id = await room_with_strangers(here, alice, "11")
        away = redaction((await Fork.of(here, room_id)).branch(), MOD, target, "11")
        await receive(here, away)
        assert (await shown(here, alice, other))[target]["content"]["body"] == "elsewhere"
        assert away.event_id not in await shown(here, alice, room_id)


async def test_red_04_a_redacted_ban_is_a_ban_whichever_comes_first(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await room_with_strangers(here, alice, "11")
        fork = await Fork.of(here, room_id)
        left, right = fork.branch(), fork.branch()
        ban = left.says(MOD, "m.room.member", STRANGER, {"membership": "ban", "reason": "rude"})
        away = redaction(right, MOD, ban.event_id, "11")
        await receive(here, away, ban)
        room = await here.core.rooms.known(room_id)
        assert room.membership(STRANGER) == 5
        persisted = await here.core.events.by_id(ban.event_id)
        assert persisted is not None
        assert persisted.event.content == {"membership": "ban"}
