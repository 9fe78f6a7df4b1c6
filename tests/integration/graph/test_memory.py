"""What is kept in memory of the graph keeps its bounds, whatever happens to it."""

from pathlib import Path
from typing import NoReturn

import pytest

from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import NAME_BYTES, Interning
from homeserver.graph.refs import OUTLIER
from homeserver.matrix.ids import UserId
from homeserver.runtime.cache import MemoryBudget
from tests.support.forks import Fork, receive_together
from tests.support.graph import process

TEXT = {"msgtype": "m.text", "body": "from elsewhere"}


async def test_redactions_do_not_make_the_event_cache_smaller(database: str, tmp_path: Path) -> None:
    """What counted as large when it came and as small when it went left its bytes behind: in the end nothing was kept."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        cache, untouched = (
            EventCache(here.core.db, here.core.interning, MemoryBudget(120_000)) for _ in range(2)
        )
        for _ in range(12):
            stored = await here.core.events.by_id(await here.send(alice, room_id, "x" * 10_000))  # type: ignore[arg-type]  # an EventId
            assert stored is not None
            untouched.add(stored)
        for number in range(12):
            sent = await here.send(alice, room_id, "x" * 10_000)
            stored = await here.core.events.by_id(sent)  # type: ignore[arg-type]  # an EventId
            assert stored is not None
            cache.add(stored)
            await here.rooms.sending.redact(alice, room_id, sent, f"r{number}", {})  # type: ignore[arg-type]  # likewise
            assert stored.redaction is not None
        nids = range(1, here.core.tail.position + 1)
        kept, expected = (sum(nid in each._events for nid in nids) for each in (cache, untouched))
        assert kept == expected > 1, "as many as without redactions"


async def test_names_beyond_the_bound_are_found_all_the_same(database: str, tmp_path: Path) -> None:
    """Whoever was known when the others were looked up has left memory when they are there."""
    async with process(database, tmp_path) as here:
        interning = Interning(here.core.db, MemoryBudget(10 * NAME_BYTES))
        users = [UserId(f"@u{number}:localhost") for number in range(40)]
        numbers: dict[UserId, int] = {}
        for end in range(1, 41, 3):
            numbers |= await interning.user_nids(users[:end])
        assert await interning.find_user_nids(users[:40:2]) == {user: numbers[user] for user in users[:40:2]}
        assert await interning.user_ids(numbers.values()) == {nid: user for user, nid in numbers.items()}
        keys = [("m.room.member", user) for user in users]
        found = await interning.key_nids(keys)
        assert len(found) == 40
        assert await interning.find_key_nids(keys) == found
        assert await interning.keys(found.values()) == {nid: key for key, nid in found.items()}
        rooms = [await here.room(await here.user("alice")) for _ in range(13)]
        named = {(await interning.room(room_id)).nid for room_id in rooms}  # type: ignore[union-attr]  # they exist
        assert set(await interning.rooms(named)) == named


async def test_rooms_beyond_the_bound_are_given_all_the_same(database: str, tmp_path: Path) -> None:
    """Whoever is in more rooms than memory holds still gets all of them; none grows beyond what was counted."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        nids = [(await here.core.rooms.known(await here.room(alice))).name.nid for _ in range(8)]
        rooms, memory = here.core.rooms, here.core.memory
        rooms.reset()
        memory.limit = 60_000
        found = await rooms.get_many(nids)
        assert sorted(found) == sorted(nids)
        assert memory.used <= memory.limit
        kept = next(nid for nid in nids if rooms.cached(nid) is not None)
        before, entries = memory.used, len(found[kept].state)
        for number in range(5):
            key = (f"x.{number}", "")
            await here.rooms.sending.put_state(alice, found[kept].name.room_id, key, {})
        assert memory.used <= max(memory.limit, before)
        assert len((await rooms.get(kept)).state) == entries + 5


async def test_an_event_in_memory_is_found_by_its_id_without_a_query(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Receipts and relations name events that were just sent."""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        event = (await Fork.of(here, room_id)).branch().says(alice.user_id, "m.room.message", None, TEXT)
        (received,) = await receive_together(here, room_id, event)

        def asked(*_: object, **__: object) -> NoReturn:
            raise AssertionError("the database was asked")

        monkeypatch.setattr(here.core.db, "read", asked)
        assert await here.core.events.by_id(event.event_id) is received
        assert await here.core.events.numbers([event.event_id]) == {event.event_id: received.nid}


async def test_an_outlier_in_memory_is_found_whole_when_it_has_become_so(
    database: str, tmp_path: Path
) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        event = (await Fork.of(here, room_id)).branch().says(alice.user_id, "m.room.message", None, TEXT)
        room = await here.core.interning.room(room_id)
        assert room is not None
        await here.core.outliers.add(room, [event])
        outlier = await here.core.events.by_id(event.event_id)
        assert outlier is not None
        assert outlier.flags == OUTLIER
        (received,) = await receive_together(here, room_id, event)
        assert await here.core.events.by_id(event.event_id) is received
        assert await here.core.events.numbers([event.event_id]) == {event.event_id: received.nid}
        assert not received.flags & OUTLIER
        assert outlier.nid != received.nid
