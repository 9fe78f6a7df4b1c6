"""Sliding sync has short ways for connections that go on as before: over generated histories, with two processes on one database,
they say what the long way says (MSC4186).
"""

import contextlib
import random
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from homeserver.matrix.errors import MatrixError
from homeserver.matrix.ids import RoomId
from homeserver.sync.sliding.alike import AlikeRooms
from homeserver.sync.sliding.service import SlidingService
from homeserver.sync.sliding.told import Told, Wanted
from homeserver.sync.sliding.windows import Windows
from tests.property.test_sliding_sums import ALL, SlidingClient
from tests.property.test_sync_sums import _act
from tests.support.graph import Process, process

STEPS = 60
SMALL: dict[str, Any] = {**ALL, "ranges": [[0, 1]], "timeline_limit": 5}
OPEN: dict[str, Any] = {**SMALL, "ranges": [[1, 2]], "filters": {"is_encrypted": False, "is_dm": False}}


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each short way was taken, and agreed with the long one."""
    found = Counter[str]()
    match_again, alike = SlidingService._match_again, AlikeRooms.told
    services: dict[int, SlidingService] = {}

    async def checked_match(self: SlidingService, question: Any) -> Any:
        short = await match_again(self, question)
        services[id(self._alike)] = self
        if short is not None:
            long = await match_again_not(self, question)
            if long.request.upto == short.request.upto:
                found["match"] += 1
                found["same rooms"] += short.again
                assert _of(short.windows) == _of(long.windows)
                assert short.grounds == long.grounds
                _in_order(question.asked.body, short.windows, long.windows)
        return short

    async def match_again_not(self: SlidingService, question: Any) -> Any:
        return await self._match(question._replace(settled=None))

    pending: list[tuple[SlidingService, Any, Told]] = []

    def noted(self: AlikeRooms, request: Any, rules: Any, state: Any, given: Any) -> Told | None:
        told = alike(self, request, rules, state, given)
        if told is not None:
            pending.append((services[id(self)], (request, rules, state, set(given)), _copy(told)))
        return told

    build = SlidingService._build

    async def checked_build(self: SlidingService, question: Any) -> Any:
        answer = await build(self, question)
        while pending:
            service, (request, rules, state, given), told = pending.pop()
            wanted = Wanted(rules, answer.grounds.direct, stubs=question.asked.stable)
            long = await service._rooms.told(request, wanted, state, given)
            assert told == _copy(long)
            found["told"] += bool(told.sections)
        return answer

    monkeypatch.setattr(SlidingService, "_match_again", checked_match)
    monkeypatch.setattr(SlidingService, "_build", checked_build)
    monkeypatch.setattr(AlikeRooms, "told", noted)
    return found


def _copy(told: Told) -> Told:
    sections = {nid: dict(section) for nid, section in told.sections.items()}
    shown = {nid: [each.persisted.nid for each in events] for nid, events in told.shown.items()}
    people: dict[int, Collection[Any]] = {nid: frozenset(users) for nid, users in told.people.items()}
    return told._replace(sections=sections, shown=shown, people=people)  # type: ignore[arg-type]  # numbers of events


def _of(windows: Windows) -> Any:
    return (windows.asked, windows.counts, windows.rules, windows.lists, windows.subscribed)


def _in_order(body: Any, short: Windows, long: Windows) -> None:
    for wanted, mine, others in zip(body.lists.values(), short.matched, long.matched, strict=True):
        assert set(mine) == set(others)
        if wanted.windows is not None and wanted.windows[0][1] + 1 < len(others):
            assert list(mine) == list(others)


@pytest.mark.parametrize("seed", range(4))
async def test_short_ways_say_what_the_long_way_says(
    database: str, tmp_path: Path, used: Counter[str], seed: int
) -> None:
    chance = random.Random(900 + seed)  # reproducible
    async with (
        process(database, tmp_path, alone=False) as one,
        process(database, tmp_path, alone=False) as two,
    ):

        def pick() -> Process:
            return one if chance.random() < 0.8 else two

        people = [await one.user(name) for name in ("alice", "bob", "carol", "dave")]
        clients = [SlidingClient(person, chance) for person in people]
        rooms: list[RoomId] = []
        for number in range(5):
            rooms.append(await one.room(people[number % 4], preset="public_chat"))
            for person in people:
                with contextlib.suppress(MatrixError):
                    await one.rooms.membership.join(person, rooms[-1])
        for client in clients:
            client.lists = {"all": SMALL, "open": OPEN} if seed % 2 else {"all": ALL}
        for step in range(STEPS):
            here = pick()
            await here.core.tail.fresh()
            with contextlib.suppress(MatrixError):  # not everything is allowed
                if step % 5:
                    await here.send(chance.choice(people), chance.choice(rooms), f"message {step}")
                else:
                    await _act(chance, here, people, rooms, None)
            if chance.random() < 0.6:  # those who wake together
                for client in clients:
                    await client.sync(pick)
    assert used["match"] > 20
    assert used["same rooms"] > 10
    assert used["told"] > 5
