"""Transactions that are not taken: repeated as they were, after pauses, and catching up after an outage."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import structlog

from federation.outbound import catch_up, commands
from federation.outbound.sender import REFUSALS
from federation.ports import BackingOff, BadAnswer, RemoteError, Unreachable
from homeserver.log.readers.types import Backoff
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import SystemClock
from tests.support.graph import process
from tests.support.outbound import Others, Sent, join, numbered, recorded, runs, sending, until
from tests.support.waiting import until as holds

PUBLIC = {"preset": "public_chat"}
TWO = ServerName("two")


class Later:
    """The system's clock, some hours ahead."""

    def __init__(self, hours: float) -> None:
        self._system = SystemClock()
        self._ahead = hours * 3600.0

    def now_ms(self) -> int:
        return self._system.now_ms() + int(self._ahead * 1000)

    def monotonic(self) -> float:
        return self._system.monotonic() + self._ahead

    async def sleep(self, seconds: float) -> None:
        await self._system.sleep(seconds)


def refuses(*faults: BaseException) -> Any:
    """Answers with these, one after the other, then takes everything."""
    left = list(faults)

    async def script(_: Sent) -> None:
        if left:
            raise left.pop(0)

    return script


async def test_a_transaction_is_repeated_as_it_was_until_it_is_taken(database: str, tmp_path: Path) -> None:
    """FED-08: same id, same content, and what was said meanwhile comes behind it."""
    others = Others()
    others.away.add("two")
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, "@bob:two", "@carol:three")
        await runs(sender)
        await here.send(alice, room_id, "m0")
        await until(lambda: len(others.asked) >= 2)
        for number in range(1, 20):
            await here.send(alice, room_id, f"m{number}")
        await until(lambda: others.texts("three") == numbered(0, 20))  # it waits for nobody
        others.away.clear()
        await until(lambda: len(others.texts("two")) == 20)
        assert others.texts("two") == numbered(0, 20)
        assert others.taken["two"][0].texts == ["m0"]
        repeated = [sent for sent in others.asked if sent.destination == "two" and sent.texts[0] == "m0"]
        assert len({(sent.txn_id, sent.body) for sent in repeated}) == 1 < len(repeated)
        others.check_contents()


async def test_after_a_restart_the_same_transaction_is_the_same(database: str, tmp_path: Path) -> None:
    others = Others()
    others.away.add("two")
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, "@bob:two")
        await runs(sender)
        await here.send(alice, room_id, "m0")
        await until(lambda: bool(others.asked))
        await sender.die()
    others.away.clear()
    async with process(database, tmp_path) as here, sending(here, others):
        await until(lambda: others.texts("two") == ["m0"])
    assert len({(sent.txn_id, sent.body) for sent in others.asked}) == 1


async def test_a_long_outage_ends_with_the_last_event_of_each_room(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FED-43: not ten thousand old events. Who was removed meanwhile hears of that, too."""
    monkeypatch.setattr(catch_up, "FEW", 20)
    others = Others()
    others.away.add("two")
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        rooms = [await here.room(alice, **PUBLIC) for _ in range(4)]
        for room_id in rooms:
            await join(here, room_id, "@bob:two", "@carol:three")
        async with sending(here, others) as sender:
            await runs(sender)
            for number in range(30):
                await here.send(alice, rooms[number % 3], f"m{number}")
            await here.rooms.membership.kick(alice, rooms[3], "@bob:two", None)
            await here.send(alice, rooms[3], "bob is gone")
            await until(lambda: len(others.texts("three")) == 32)
            await until(lambda: sum(sent.destination == "two" for sent in others.asked) >= 4)
            await recorded(here)
    others.away.clear()
    async with process(database, tmp_path) as here, sending(here, others, clock=Later(3)) as sender:
        await until(lambda: len(others.texts("two")) == 4)
        assert others.texts("two") == ["m27", "m28", "m29", "m.room.member leave"]
        assert sender.outbound._catch_up.collapsed == 1
        await here.send(await here.user("alice"), rooms[0], "and on")
        await until(lambda: others.texts("two")[4:] == ["and on"])


async def test_a_short_outage_loses_nothing(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "MANY", 7)
    others = Others()
    others.away.add("two")
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, "@bob:two")
        await runs(sender)
        for number in range(40):
            await here.send(alice, room_id, f"m{number}")
            if number in (0, 10):
                asked = len(others.asked)
                await until(lambda asked=asked: len(others.asked) > asked + 4)  # type: ignore[misc]
        others.away.clear()
        await until(lambda: len(others.texts("two")) == 40)
        assert others.texts("two") == numbered(0, 40)


async def test_who_asks_to_be_left_alone_is_for_as_long(database: str, tmp_path: Path) -> None:
    others = Others()
    limited = RemoteError(TWO, 429, "M_LIMIT_EXCEEDED", "", b'{"retry_after_ms":700}')
    told = RemoteError(TWO, 429, "M_LIMIT_EXCEEDED", "", retry_after=1.0)
    others.scripts["two"] = refuses(limited, told, BackingOff(TWO, "it was away", 1.0))
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, "@bob:two")
        await runs(sender)
        began = asyncio.get_running_loop().time()
        await here.send(alice, room_id, "m0")
        await until(lambda: others.texts("two") == ["m0"])
        assert asyncio.get_running_loop().time() - began >= 3.0, "never less than a second each"
        others.check_contents()


async def test_what_it_cannot_read_is_found_and_passed_over(database: str, tmp_path: Path) -> None:
    """A server that answers 400 or 413 to the whole because of one event gets the others."""
    others = Others()

    async def script(sent: Sent) -> None:
        if "m3" in sent.texts:
            raise RemoteError(TWO, 413 if len(sent.texts) > 2 else 400, "M_TOO_LARGE", "")

    others.scripts["two"] = script
    quick = Backoff(first=0.001, longest=0.005)
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, "@bob:two")
        async with sending(here, others, backoff=quick) as sender:
            await runs(sender)
            for number in range(8):
                await here.send(alice, room_id, f"m{number}")
            await until(lambda: len(others.texts("two")) == 7)
        assert others.texts("two") == ["m0", "m1", "m2", "m4", "m5", "m6", "m7"]
        alone = [sent for sent in others.asked if sent.texts == ["m3"]]
        assert len(alone) >= REFUSALS
        others.check_contents()


async def test_answers_that_are_none_are_no_acknowledgement(database: str, tmp_path: Path) -> None:
    """A proxy that says 200 to everything has not delivered anything."""
    others = Others()
    others.scripts["two"] = refuses(
        BadAnswer(TWO, "not JSON"),
        BadAnswer(TWO, "more than 262144 bytes"),
        Unreachable(TWO, "no answer within 60 s"),
        RemoteError(TWO, 404, "M_UNRECOGNIZED", ""),
        RemoteError(TWO, 401, "M_UNAUTHORIZED", ""),
        RemoteError(TWO, 500, "M_UNKNOWN", ""),
    )
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, "@bob:two")
        await runs(sender)
        await here.send(alice, room_id, "m0")
        await until(lambda: others.texts("two") == ["m0"])
        assert len(others.asked) == 7
        others.check_contents()


async def test_events_that_it_does_not_take_are_not_sent_again(database: str, tmp_path: Path) -> None:
    """FED-08: 200 with an error for an event; one line in the log, whatever stands in the answer."""
    others = Others()
    answers: list[Any] = [{"pdus": "?"}, {}, {"pdus": []}]

    async def script(sent: Sent) -> dict[str, Any]:
        if answers:
            return dict(answers.pop())
        return {"pdus": {"$unknown": {"error": "x"}, "$other": 7}}

    others.scripts["two"] = script

    async def refusing(sent: Sent) -> dict[str, Any]:
        await until(lambda: len(ids) == 5)
        pdus = {f"${n}": {"error": "x" * 100_000} for n in range(3)}
        for persisted in ids:
            pdus[persisted] = {"error": "You are not allowed to"}
        return {"pdus": pdus}

    others.scripts["three"] = refusing
    ids: list[str] = []
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, "@bob:two", "@carol:three")
        await runs(sender)
        with structlog.testing.capture_logs() as lines:
            ids += [await here.send(alice, room_id, f"m{number}") for number in range(5)]
            await until(lambda: len(others.texts("two")) == len(others.texts("three")) == 5)
            await until(lambda: sender.outbound._figures.refused == 5)
        refused = [line for line in lines if line["event"] == "federation.events_refused"]
        assert refused
        assert all(line["destination"] == "three" for line in refused)
        assert all(len(line["reason"]) <= 200 for line in refused)
        assert sender.outbound._figures.refused == 5


async def test_slow_servers_delay_nobody(database: str, tmp_path: Path) -> None:
    others = Others()
    hanging = [f"slow{n}" for n in range(8)]

    async def hang(_: Sent) -> None:
        await asyncio.Event().wait()

    others.scripts = dict.fromkeys(hanging, hang)
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, "@bob:two", *(f"@x:{server}" for server in hanging))
        await runs(sender)
        for number in range(60):
            await here.send(alice, room_id, f"m{number}")
        await until(lambda: len(others.texts("two")) == 60, 20)
        assert sum(sent.destination in hanging for sent in others.asked) == len(hanging)


async def test_the_status_says_how_a_destination_is_and_it_can_be_tried_again(
    database: str, tmp_path: Path
) -> None:
    others = Others()
    others.away.add("two")
    slowly = Backoff(first=30.0, longest=60.0)
    async with process(database, tmp_path) as here, sending(here, others, backoff=slowly) as sender:
        core = here.core
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, "@bob:two", "@carol:three")
        await runs(sender)
        for number in range(5):
            await here.send(alice, room_id, f"m{number}")
        await until(
            lambda: len(others.texts("three")) == 5 and any(s.destination == "two" for s in others.asked)
        )

        async def written() -> bool:
            """How far the sender has looked is recorded once a second, and what became of what it sent after it was sent."""
            await sender.outbound.outcomes.write()
            return [
                (each.destination, each.backlog, each.failures, bool(each.last_success_ms))
                for each in await commands.overview(core.db, core.server_name)
            ] == [("two", 5, 1, False), ("three", 0, 0, True)]

        await holds(written)
        two, three = await commands.overview(core.db, core.server_name)
        assert 20 < two.retry_in <= 36
        assert two.last_error == "no answer in time"
        assert two.last_failure_ms
        assert not two.last_success_ms
        assert (three.destination, three.backlog, three.failures, three.last_error) == ("three", 0, 0, "")
        assert three.last_success_ms
        shown = {
            (sample.name, *sample.labels.values()): sample.value
            for metric in sender.outbound.figures.collect()
            for sample in metric.samples
        }
        assert shown["atrium_federation_destinations", "failing"] == 1
        assert shown["atrium_federation_worst_failures", "two"] == 1
        assert shown["atrium_federation_sent_total", "event"] == 5
        others.away.clear()
        sender.outbound.is_back(TWO)
        await until(lambda: others.texts("two") == numbered(0, 5))
        assert not await commands.reset(core.db, TWO), "it is not failing any more"
        await sender.outbound.outcomes.write()
        (two,) = await commands.overview(core.db, core.server_name, destination="two")
        assert (two.backlog, two.failures) == (0, 0)
        assert two.last_success_ms >= two.last_failure_ms
