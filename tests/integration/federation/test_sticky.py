"""Sticky events and other servers (MSC4354): who comes into a room is sent ours; what soft failed is looked at again."""

from __future__ import annotations

from pathlib import Path

from homeserver.events.sticky import duration_of
from homeserver.graph.entry import EventEntry
from homeserver.graph.refs import SOFT_FAILED, EventRef
from homeserver.graph.write.relink import Relinker
from homeserver.matrix.ids import EventId, RoomId
from tests.support.forks import Fork, receive
from tests.support.graph import Process, process
from tests.support.outbound import Others, join, runs, sending, until

PUBLIC = {"preset": "public_chat"}
TEXT = {"msgtype": "m.text", "body": "hello"}
BOB, CAROL, ROBERT = "@bob:two", "@carol:three", "@robert:two"


async def sticks(here: Process, sender: object, room_id: RoomId, body: str, ms: int = 600_000) -> str:
    """A sticky message of one of our users."""
    content = {"msgtype": "m.text", "body": body}
    send = here.rooms.sending.send
    return await send(sender, room_id, "m.room.message", body, content, sticky_ms=ms)  # type: ignore[arg-type]


async def test_a_server_that_comes_into_a_room_is_sent_ours(database: str, tmp_path: Path) -> None:
    others = Others()
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        room_id, other = await here.room(alice, **PUBLIC), await here.room(alice, **PUBLIC)
        await join(here, room_id, BOB)
        await runs(sender)
        await here.send(alice, room_id, "before")
        await sticks(here, alice, room_id, "one")
        await sticks(here, alice, room_id, "over", 0)
        await sticks(here, alice, room_id, "two")
        await sticks(here, alice, other, "elsewhere")
        await until(lambda: others.texts("two") == ["before", "one", "over", "two"])
        await join(here, room_id, CAROL)
        await until(lambda: others.texts("three") == ["one", "two"])
        await join(here, room_id, ROBERT)
        await here.send(alice, room_id, "after")
        await until(lambda: others.texts("three") == ["one", "two", "after"])
        assert others.texts("two") == ["before", "one", "over", "two", "after"], "nobody is sent them twice"


async def test_who_was_away_for_long_is_sent_ours_beside_the_last_event(
    database: str, tmp_path: Path
) -> None:
    others = Others()
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, BOB)
        first = await sticks(here, alice, room_id, "one")
        async with sending(here, others) as sender:
            await runs(sender)
            own = sender.outbound._catch_up._sticky
            found = await own.everywhere(0, here.core.tail.position)
            assert [each.event.event_id for each in found] == [first]
            assert await own.everywhere(found[0].nid, here.core.tail.position) == []


async def test_what_soft_failed_is_told_when_the_room_allows_it(database: str, tmp_path: Path) -> None:
    """Bob may speak on the branch where his event was made, and not here: until he may here."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, BOB)
        fork = await Fork.of(here, room_id)
        said = fork.branch().says(BOB, "m.room.message", None, TEXT, sticky_ms=600_000)
        plain = fork.branch().says(BOB, "m.room.message", None, {**TEXT, "body": "plain"})
        levels = dict(fork.branch().state["m.room.power_levels", ""].content)
        put = here.rooms.sending.put_state
        await put(alice, room_id, ("m.room.power_levels", ""), {**levels, "events_default": 50})
        received = await receive(here, said, plain)
        assert [each.flags for each in received] == [SOFT_FAILED, SOFT_FAILED]
        since = (await here.sync(alice))["next_batch"]
        await here.core.sticky.look_again()
        assert received[0].flags == SOFT_FAILED
        await put(alice, room_id, ("m.room.power_levels", ""), levels)
        await here.core.sticky.look_again()
        answer = await here.sync(alice, since)
        (told,) = answer["rooms"]["join"][room_id]["msc4354_sticky"]["events"]
        assert told["event_id"] == said.event_id
        assert 0 < told["unsigned"]["msc4354_sticky_duration_ttl_ms"] <= 600_000
        assert [each.flags for each in received] == [0, SOFT_FAILED]
        # It stays so, and is told once.
        again = await here.sync(alice, answer["next_batch"])
        assert "rooms" not in again
        here.core.sticky.reset()
        here.core.events.clear()
        persisted = await here.core.events.by_id(said.event_id)
        assert persisted is not None
        assert persisted.flags == 0
        first = await here.sync(alice)
        shown = first["rooms"]["join"][room_id]
        assert said.event_id in str(shown)


async def test_what_says_that_it_was_sent_in_the_future_is_not_sticky_for_longer(
    database: str, tmp_path: Path
) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, BOB)
        fork = await Fork.of(here, room_id)
        fork._elsewhere._now += 3_000_000
        (received,) = await receive(
            here, fork.branch().says(BOB, "m.room.message", None, TEXT, sticky_ms=600_000)
        )
        assert received.sticky_until <= here.core.clock.now_ms() + 600_000


async def test_what_is_signed_again_to_follow_others_is_as_sticky_as_before(
    database: str, tmp_path: Path
) -> None:
    """Two processes speak in a room at once: the event of one is built anew behind the other's."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        room = await here.core.rooms.known(room_id)
        sent = await sticks(here, alice, room_id, "one")
        persisted = await here.core.events.by_id(EventId(sent))
        assert persisted is not None
        entry = EventEntry(
            persisted=persisted, base=(), extremities=(persisted.ref,), room_state=room.room_state
        )
        later = EventRef(EventId("$later"), 0, persisted.event.depth + 5)
        Relinker(here.core.identity)(entry, (later,))
        assert persisted.event.event_id != sent
        assert persisted.event.prev_event_ids == ("$later",)
        assert duration_of(persisted.event) == 600_000
