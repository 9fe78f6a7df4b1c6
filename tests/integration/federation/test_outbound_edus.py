"""What is told beside events: durable EDUs in order and never lost, ephemeral ones coalesced and for a moment."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from federation.outbound import catch_up, ephemeral
from federation.outbound.edus import edu
from federation.outbound.ephemeral_sources import PresenceEdus, ReceiptEdus
from federation.outbound.service import Outbound
from homeserver.log.entries import Position
from homeserver.log.readers.types import Item, Slice
from homeserver.matrix.ids import ServerName
from homeserver.presence.types import PresenceEntry
from homeserver.storage.tx import Tx
from homeserver.typing.entries import TypingEntry
from tests.integration.federation.test_outbound_transactions import Later
from tests.support.graph import process
from tests.support.notes import TABLE, Note, NoteSink
from tests.support.outbound import Others, Sent, join, recorded, runs, sending, until

PUBLIC = {"preset": "public_chat"}


class NoteEdus:
    """Durable EDUs as to-device messages will be: rows that stand until they are delivered."""

    entry_type = Note

    def __init__(self) -> None:
        self.gone: list[int] = []
        self.silent: set[int] = set()

    def take(self, entry: Note) -> Note:
        return entry

    async def read(self, tx: Tx, after: Position, upto: Position, limit: int) -> Slice:
        return await self._rows(tx, "%", (after, upto), limit)

    async def resume(
        self, tx: Tx, destination: ServerName, bounds: tuple[Position, Position], limit: int
    ) -> Slice:
        return await self._rows(tx, destination, bounds, limit)

    async def _rows(self, tx: Tx, to: str, bounds: tuple[int, int], limit: int) -> Slice:
        rows = await tx.all(
            """
            SELECT position, to_key, number FROM test_notes WHERE to_key LIKE %(to)s
            AND position > %(after)s AND position <= %(upto)s ORDER BY position LIMIT %(limit)s
            """,
            to=to,
            after=bounds[0],
            upto=bounds[1],
            limit=limit,
        )
        items = [Item(position, Note(to, number)) for position, to, number in rows]
        return Slice(items, rows[-1][0] if len(rows) == limit else bounds[1])

    async def concerned(self, items: Sequence[Item[Note]]) -> Sequence[frozenset[str]]:
        return [frozenset([item.value.to]) for item in items]

    async def edus(self, destination: ServerName, items: Sequence[Item[Note]]) -> Sequence[Sequence[bytes]]:
        del destination
        return [
            []
            if item.value.number in self.silent
            else [edu("org.example.note", b'{"number":%d}' % item.value.number)]
            for item in items
        ]

    async def delivered(self, destination: ServerName, items: Sequence[Item[Note]]) -> None:
        del destination
        self.gone += [item.value.number for item in items]


async def test_durable_edus_come_in_order_between_events_and_are_acknowledged(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the destination is away: of events the last of each room, of these all."""
    monkeypatch.setattr(catch_up, "FEW", 10)
    others, notes = Others(), NoteEdus()
    others.away.add("two")
    notes.silent.add(7)

    def prepare(outbound: Outbound) -> None:
        outbound.sources.add_durable(notes)

    async with process(database, tmp_path) as here:
        here.core.tail.register(NoteSink())
        async with here.core.db.transaction() as tx:
            await tx.execute(TABLE)
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, "@bob:two", "@carol:three")
        async with sending(here, others, prepare=prepare) as sender:
            await runs(sender)
            for number in range(130):
                await here.core.log.append(Note("two", number), Note("three", number))
                if number % 10 == 0:
                    await here.send(alice, room_id, f"m{number}")
            await until(lambda: len(others.texts("three")) == 13 and len(others.edus("three")) >= 129)
            assert [each["number"] for each in others.edus("three")][-100:] == list(range(30, 130))
            assert not any(sent.destination == "two" for sent in others.taken["two"])
            await until(lambda: sum(sent.destination == "two" for sent in others.asked) > 4)
            await recorded(here)
        notes.gone.clear()
    others.away.clear()
    async with process(database, tmp_path) as here:
        here.core.tail.register(NoteSink())
        async with sending(here, others, prepare=prepare, clock=Later(2)):
            await until(lambda: len(others.edus("two")) == 129)
            assert [each["number"] for each in others.edus("two")] == [n for n in range(130) if n != 7]
            assert others.texts("two") == ["m120"], "the last one, with which it finds the others"
            await until(lambda: notes.gone == list(range(130)))
    others.check_contents()


async def test_typing_is_told_to_the_servers_in_the_room(database: str, tmp_path: Path) -> None:
    """FED-29: of our users, to servers in the room; what others say is not passed on."""
    others = Others()
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        private = await here.room(alice)
        await join(here, room_id, "@bob:two", "@carol:three")
        await runs(sender)
        typing = here.ephemeral.typing_service
        await typing.set(alice, private, typing=True, timeout_ms=5_000)
        room = await here.core.rooms.known(room_id)
        await here.core.log.append(TypingEntry(room.name.nid, 999, "@bob:two", True))
        await typing.set(alice, room_id, typing=True, timeout_ms=5_000)
        said = {"room_id": room_id, "typing": True, "user_id": alice.user_id}
        await until(lambda: others.edus("two", "m.typing") == others.edus("three", "m.typing") == [said])
        await typing.set(alice, room_id, typing=False, timeout_ms=0)
        await until(lambda: others.edus("two", "m.typing")[1:] == [{**said, "typing": False}])


async def test_public_receipts_alone_are_told_and_coalesced(database: str, tmp_path: Path) -> None:
    """EPH-02, FED-35: `m.read` with its thread, never `m.read.private`; what is older is left out."""
    others = Others()
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice, dora = await here.user("alice"), await here.user("dora")
        room_id = await here.room(alice, **PUBLIC)
        await here.rooms.membership.join(dora, room_id)
        await join(here, room_id, "@bob:two")
        await runs(sender)
        ids = [await here.send(alice, room_id, f"m{number}") for number in range(5)]
        await until(lambda: len(others.texts("two")) == 5)
        receipts = here.ephemeral.receipts
        await receipts.read(alice, room_id, "m.read.private", ids[4])  # type: ignore[arg-type]
        for event_id in ids[:4]:
            await receipts.read(dora, room_id, "m.read", event_id)  # type: ignore[arg-type]
        await receipts.read(dora, room_id, "m.read", ids[3], "main")  # type: ignore[arg-type]
        await receipts.read(alice, room_id, "m.read", ids[1])  # type: ignore[arg-type]
        await until(lambda: len(others.edus("two", "m.receipt")) == 2)
        first, second = others.edus("two", "m.receipt")
        assert {user: said["event_ids"] for user, said in first[room_id]["m.read"].items()} == {
            dora.user_id: [ids[3]],
            alice.user_id: [ids[1]],
        }
        (threaded,) = second[room_id]["m.read"].values()
        assert threaded["data"]["thread_id"] == "main"
        assert b"private" not in b"".join(sent.body for sent in others.asked)
        assert len(others.taken["two"][-1].json["pdus"]) == 0


async def test_presence_is_told_to_who_shares_a_room(database: str, tmp_path: Path) -> None:
    others = Others()
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice, dora = await here.user("alice"), await here.user("dora")
        room_id = await here.room(alice, **PUBLIC)
        await here.room(dora)
        await join(here, room_id, "@bob:two")
        await runs(sender)
        now = here.core.clock.now_ms()
        for who in (dora, alice):
            for presence, beat in (("online", False), ("unavailable", False), ("unavailable", True)):
                entry = PresenceEntry(who.user_nid, who.user_id, presence, "busy", now - 5_000, beat)
                await here.core.log.append(entry)
        await until(lambda: bool(others.edus("two", "m.presence")))
        (content,) = others.edus("two", "m.presence")
        (told,) = content["push"]
        assert (told["user_id"], told["presence"], told["status_msg"]) == (
            alice.user_id,
            "unavailable",
            "busy",
        )
        assert 5_000 <= told["last_active_ago"] < 60_000


async def test_what_is_of_worth_for_a_moment_is_not_kept_for_who_is_away(
    database: str, tmp_path: Path
) -> None:
    """Typing goes, the last receipts stay; and they come behind the events."""
    others = Others()
    others.away.add("two")
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, "@bob:two")
        await runs(sender)
        event_id = await here.send(alice, room_id, "m0")
        await until(lambda: len(others.asked) > 2)
        await here.ephemeral.typing_service.set(alice, room_id, typing=True, timeout_ms=60_000)
        await here.ephemeral.receipts.read(alice, room_id, "m.read", event_id)  # type: ignore[arg-type]
        asked = len(others.asked)
        await until(lambda: len(others.asked) > asked + 3)
        others.away.clear()
        await until(lambda: others.texts("two") == ["m0"])
        await here.send(alice, room_id, "m1")
        await until(lambda: others.texts("two") == ["m0", "m1"])
        await until(lambda: len(others.edus("two", "m.receipt")) == 1)
        assert not others.edus("two", "m.typing")
        others.check_contents()


async def test_receipts_that_could_not_be_sent_alone_are_sent_later(database: str, tmp_path: Path) -> None:
    others = Others()
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, "@bob:two")
        await runs(sender)
        event_id = await here.send(alice, room_id, "m0")
        await until(lambda: len(others.texts("two")) == 1)
        others.away.add("two")
        await here.ephemeral.receipts.read(alice, room_id, "m.read", event_id)  # type: ignore[arg-type]
        await until(lambda: len(others.asked) == 2)
        others.away.clear()
        await here.send(alice, room_id, "m1")
        await until(lambda: len(others.edus("two", "m.receipt")) == 1)
        assert others.taken["two"][-1].json["pdus"], "with the next event"


async def test_memory_for_a_destination_is_bounded(database: str, tmp_path: Path) -> None:
    others = Others()
    entered = asyncio.Event()

    async def hang(_: Sent) -> None:
        entered.set()
        await asyncio.Event().wait()

    others.scripts["two"] = hang
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, "@bob:two")
        await runs(sender)
        await here.send(alice, room_id, "m0")
        await entered.wait()
        room = await here.core.rooms.known(room_id)
        source = ReceiptEdus(sender.outbound.servers, here.core.interning, here.core.server_name)
        waiting = sender.outbound.ephemeral
        from federation.outbound.ephemeral import Said

        for number in range(1_000):
            waiting._put("two", Said(source, number, None))
        assert len(waiting) == ephemeral.MAX_FOR_ONE
        assert room.joined_count == 2


def test_presence_and_receipts_of_many_fit_into_few_edus() -> None:
    entries = [PresenceEntry(n, f"@u{n}:here", "online", None, 1_000) for n in range(120)]
    source = PresenceEdus(None, None, ServerName("here"), None)  # type: ignore[arg-type]  # nobody is asked
    contents = source.contents(entries, 2_000)
    assert [len(content["push"]) for content in contents] == [50, 50, 20]
    assert contents[0]["push"][0]["currently_active"] is True
