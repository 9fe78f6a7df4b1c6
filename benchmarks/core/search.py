"""What finding messages costs: `python -m benchmarks.core.search --messages 1000000`.

Atrium in this process on a PostgreSQL of its own, as shipped (fsync on), with a million messages in a thousand rooms, of which
the reader is in two hundred and somebody else in all. The messages are written by COPY, their words as common and as rare as in
a language (Zipf); the index is made by the rebuild, in some twenty minutes. Then: searches over HTTP, what the indexer costs for
a message, how far it is behind at 500 messages a second, and the size of it all. With `--keep FOLDER` what was made once
is measured again.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import aiohttp
import psycopg

from benchmarks.procfs import Watched
from benchmarks.servers.database import describe, own_database
from homeserver.app import App
from homeserver.config import Config, dev_config
from homeserver.log.readers.types import Item
from homeserver.search import indexer, rebuild
from homeserver.storage import migrate

ROOMS, MINE = 1_000, 200
WORDS = 50_000
ROUNDS = 20
BATCH = 125
"""Messages the indexer is handed at once: what comes in a quarter of a second at 500 a second."""
SECONDS, RATE = 20, 500
MEASURED = ("searches", "indexing", "lag")
_SYLLABLES = [a + b for a in "bdfghklmnprstvwz" for b in ("a", "e", "i", "o", "u", "an", "er", "il", "ost")]
_CHINESE = [chr(0x4E00 + n) for n in range(2_000)]


def vocabulary(chance: random.Random) -> list[str]:
    """Words of a language nobody speaks, the short ones first, as in all of them."""
    words: dict[str, None] = {}
    while len(words) < WORDS:
        length = 1 + min(4, int(len(words) ** 0.5 / 60) + chance.randrange(2))
        words["".join(chance.choices(_SYLLABLES, k=length))] = None
    return list(words)


def bodies(count: int, words: list[str], chance: random.Random) -> Iterator[str]:
    """Messages of three to thirty words; each tenth is in Chinese."""
    weights = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(words))))
    chinese = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(_CHINESE))))
    for number in range(count):
        length = min(30, 3 + int(chance.expovariate(1 / 9)))
        if number % 10 == 0:
            yield "".join(chance.choices(_CHINESE, cum_weights=chinese, k=length))
        else:
            yield " ".join(chance.choices(words, cum_weights=weights, k=length))


class Client:
    """One person."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str = "") -> None:
        self.session, self.url, self.token = session, url, token

    async def call(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = f"{self.url}/_matrix/client/v3{path}"
        async with self.session.request(method, url, json=body or {}, headers=headers) as answer:
            found = await answer.json()
            if answer.status != status:
                raise RuntimeError(f"{path}: {answer.status} {found}")
            return found

    async def person(self, name: str) -> Client:
        asked = await self.call(
            "POST", "/register", {"username": name, "password": "a long password"}, status=401
        )
        auth = {"type": "m.login.dummy", "session": asked["session"]}
        body = {"username": name, "password": "a long password", "auth": auth}
        made = await self.call("POST", "/register", body)
        return Client(self.session, self.url, made["access_token"])


async def people_and_rooms(config: Config) -> tuple[str, str]:
    """Tokens of who is in some rooms, and of who is in all."""
    async with running(config) as (app, session):
        reader = await Client(session, app.url).person("reader")
        everywhere = await Client(session, app.url).person("everywhere")
        for some in (
            itertools.batched(range(ROOMS), 20) if hasattr(itertools, "batched") else _batched(ROOMS, 20)
        ):
            made = await asyncio.gather(
                *(everywhere.call("POST", "/createRoom", {"preset": "public_chat"}) for _ in some)
            )
            await asyncio.gather(
                *(
                    reader.call("POST", f"/join/{room['room_id']}")
                    for number, room in zip(some, made, strict=True)
                    if number % (ROOMS // MINE) == 0
                )
            )
        return reader.token, everywhere.token


def _batched(count: int, size: int) -> Iterator[list[int]]:
    for start in range(0, count, size):
        yield list(range(start, min(count, start + size)))


class running:  # noqa: N801  # reads as what it does
    """The application, and a client's connections."""

    def __init__(self, config: Config) -> None:
        self.app = App(config)

    async def __aenter__(self) -> tuple[App, aiohttp.ClientSession]:
        await self.app.start()
        self.session = aiohttp.ClientSession()
        return self.app, self.session

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()
        await self.app.stop()


def write_messages(dsn: str, count: int) -> None:
    """By COPY, behind the server's back."""
    chance = random.Random(7)
    words = vocabulary(chance)
    with psycopg.connect(dsn) as connection:
        connection.execute("DELETE FROM search_rebuild")
        row = connection.execute("SELECT position FROM log_head").fetchone()
        assert row is not None
        rooms = connection.execute(
            "SELECT room_nid, room_id, state_nid FROM rooms ORDER BY room_nid"
        ).fetchall()
        user = connection.execute(
            "SELECT user_nid, user_id FROM users WHERE user_id LIKE '@everywhere:%'"
        ).fetchone()
        assert user is not None
        first, now = row[0] + 1, int(time.time() * 1000)
        columns = "event_nid, room_nid, sender_nid, state_nid, origin_server_ts, flags, event_id, pdu"
        # Some rooms are busy, most are not.
        weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(len(rooms))))
        chance.shuffle(rooms)
        with connection.cursor().copy(f"COPY events ({columns}) FROM STDIN".encode()) as copy:
            for number, body in enumerate(bodies(count, words, chance)):
                nid = first + number
                room_nid, room_id, state = chance.choices(rooms, cum_weights=weights)[0]
                event_id = "$" + base64.urlsafe_b64encode(chance.randbytes(32)).decode().rstrip("=")
                pdu = _pdu(body, room_id, user[1], now - count + number)
                copy.write_row((nid, room_nid, user[0], state, now - count + number, 0, event_id, pdu))
        connection.execute("UPDATE log_head SET position = %s", [first + count])
        connection.execute("UPDATE log_readers SET position = %s", [first + count])
        connection.execute("DELETE FROM log_feed")


def _pdu(body: str, room_id: str, sender: str, ts: int) -> bytes:
    event = {
        "auth_events": ["$" + "a" * 43, "$" + "b" * 43],
        "content": {"body": body, "msgtype": "m.text"},
        "depth": 10,
        "hashes": {"sha256": "c" * 43},
        "origin_server_ts": ts,
        "prev_events": ["$" + "d" * 43],
        "room_id": room_id,
        "sender": sender,
        "signatures": {"localhost": {"ed25519:a": "e" * 86}},
        "type": "m.room.message",
    }
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


async def rebuilt(app: App, watched: Watched, count: int) -> None:
    """Wait for the index."""
    before, began = watched.usage(), time.monotonic()
    while True:
        await asyncio.sleep(0.5)
        async with app.core.db.read() as tx:
            if await tx.value("SELECT ended IS NOT NULL FROM search_rebuild"):
                break
    used, seconds = watched.usage() - before, time.monotonic() - began
    print(
        f"rebuild: {count / seconds:,.0f} messages/s, {used.server / count * 1e6:.0f} us CPU here, "
        f"{used.database / count * 1e6:.0f} us in PostgreSQL for each",
        flush=True,
    )


def sizes(dsn: str, count: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE) search_entries")
        row = connection.execute(
            "SELECT pg_table_size('search_entries'), pg_relation_size('search_entries_words'), "
            "pg_indexes_size('search_entries'), pg_total_relation_size('events')"
        ).fetchone()
    assert row is not None
    rows, words, indexes, events = row
    print(
        f"size: {(rows + indexes) / count:.0f} bytes a message (rows {rows / count:.0f}, words {words / count:.0f}, "
        f"other indexes {(indexes - words) / count:.0f}); events {events / count:.0f}",
        flush=True,
    )


async def searches(name: str, watched: Watched, client: Client, words: Sequence[str], room: str) -> None:
    common, often, seldom, rare = words[0], words[30], words[2_000], words[40_000]
    cases: list[tuple[str, str, dict[str, Any]]] = [
        ("the most common word", common, {}),
        ("the most common word, newest first", common, {"order_by": "recent"}),
        ("two common words", f"{common} {words[1]}", {}),
        ("four common words", " ".join(words[:4]), {}),
        ("a phrase of two common words", f'"{common} {words[1]}"', {}),
        ("an ordinary word", often, {}),
        ("a seldom word", seldom, {}),
        ("a rare word", rare, {}),
        ("a rare and a common word", f"{rare} {common} ", {}),
        ("the beginning of a word, two letters", common[:2], {}),
        ("the beginning of a word, four letters", rare[:4], {}),
        ("common word and a beginning", f"{common} {seldom[:3]}", {}),
        ("two Chinese characters", _CHINESE[0] + _CHINESE[1], {}),
        ("one Chinese character", _CHINESE[50], {}),
        ("no such word", "qqqqqqqq", {}),
        ("common word in one room", common, {"filter": {"rooms": [room]}}),
        ("seldom word in one room", seldom, {"filter": {"rooms": [room]}}),
        ("common word, context 5 + 5, profiles", common, {"event_context": {"include_profile": True}}),
        ("common word, groups", common, {"groupings": {"group_by": [{"key": "room_id"}, {"key": "sender"}]}}),
    ]
    for what, term, more in cases:
        times, count, before = [], 0, watched.usage()
        body = {"search_categories": {"room_events": {"search_term": term, **more}}}
        for _ in range(ROUNDS + 1):
            began = time.perf_counter()
            answer = await client.call("POST", "/search", body)
            times.append((time.perf_counter() - began) * 1000)
            count = answer["search_categories"]["room_events"]["count"]
        first, rest, used = times[0], sorted(times[1:]), watched.usage() - before
        print(
            f"{name}: {what}: first {first:.1f} ms, then median {statistics.median(rest):.1f}, "
            f"p99 {rest[int(len(rest) * 0.99)]:.1f}; CPU {used.server / len(times) * 1000:.1f} here, "
            f"{used.database / len(times) * 1000:.1f} in PostgreSQL; count {count}",
            flush=True,
        )


async def indexing(app: App, watched: Watched, dsn: str, count: int) -> None:
    """What the indexer costs for each message: the newest ones leave the index and come again."""
    some = min(20_000, count // 2)
    async with app.core.db.transaction() as tx:
        last = await tx.value("SELECT max(event_nid) FROM search_entries")
        await tx.execute("DELETE FROM search_entries WHERE event_nid > %(after)s", after=last - some)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM search_entries")
    nids = list(range(last - some + 1, last + 1))
    indexer.PAUSE = 0.0  # type: ignore[misc]
    events = {}
    for start in range(0, some, 1_000):
        events |= await app.core.events.load(nids[start : start + 1_000])
    for size in (BATCH, 10):
        before, began = watched.usage(), time.monotonic()
        mine = nids[: some // 2] if size == BATCH else nids[some // 2 : some // 2 + 2_000]
        for start in range(0, len(mine), size):
            items = [Item(nid, events[nid]) for nid in mine[start : start + size] if nid in events]
            await app.features.search.indexer.deliver("", items)
        used, seconds = watched.usage() - before, time.monotonic() - began
        print(
            f"indexing {size} at once: {used.server / len(mine) * 1000:.3f} ms CPU here, "
            f"{used.database / len(mine) * 1000:.3f} in PostgreSQL for each message; "
            f"{seconds / len(mine) * size * 1000:.1f} ms a batch",
            flush=True,
        )
    left = nids[some // 2 + 2_000 :]
    for start in range(0, len(left), indexer.BATCH):
        items = [Item(nid, events[nid]) for nid in left[start : start + indexer.BATCH] if nid in events]
        await app.features.search.indexer.deliver("", items)
    indexer.PAUSE = 0.25  # type: ignore[misc]


async def lag(app: App, token: str, room: str) -> None:
    """How long after it was sent a message is found, at a steady pace."""
    seen: list[tuple[float, int]] = []
    done = asyncio.Event()

    async def look() -> None:
        while not done.is_set():
            async with app.core.db.read() as tx:
                seen.append((time.monotonic(), await tx.value("SELECT max(event_nid) FROM search_entries")))
            await asyncio.sleep(0.02)

    looking = asyncio.create_task(look())
    command = [sys.executable, "-m", "benchmarks.core.sending", app.url, room, str(SECONDS), str(RATE)]
    sending = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, env=os.environ | {"TOKEN": token}
    )
    sent = sorted(json.loads((await sending.communicate())[0]))
    await asyncio.sleep(2)
    done.set()
    await looking
    async with app.core.db.read() as tx:
        numbers = dict(
            await tx.all(
                "SELECT event_id, event_nid FROM events WHERE event_id = ANY(%(ids)s::text[]) AND moved_to IS NULL",
                ids=[event_id for _, event_id in sent],
            )
        )
    lags = []
    for moment, event_id in sent:
        at = bisect_left(seen, numbers[event_id], key=lambda look: look[1] or 0)
        if at == len(seen):
            raise SystemExit("the index is behind by more than two seconds")
        lags.append(max(0.0, seen[at][0] - moment))
    lags.sort()
    pace = (len(sent) - 1) / (sent[-1][0] - sent[0][0])
    print(
        f"lag at {pace:.0f} messages/s: median {lags[len(lags) // 2] * 1000:.0f} ms, "
        f"p99 {lags[int(len(lags) * 0.99)] * 1000:.0f}, longest {lags[-1] * 1000:.0f}",
        flush=True,
    )


async def made(config: Config, dsn: str, folder: Path, count: int) -> tuple[str, str]:
    """Tokens of two readers of all these messages: of a run before, where the folder was kept."""
    kept = folder / "readers.json"
    if kept.exists():
        there = json.loads(kept.read_text())
        if there["messages"] != count:
            raise SystemExit(f"{folder} has {there['messages']} messages")
        return there["some"], there["all"]
    some, everywhere = await people_and_rooms(config)
    write_messages(dsn, count)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE) events")
    kept.write_text(json.dumps({"messages": count, "some": some, "all": everywhere}))
    return some, everywhere


async def measure(dsn: str, folder: Path, postmaster: int, count: int, only: Sequence[str]) -> None:
    config = dev_config(port=0, data=folder).with_database(dsn)
    limits = config.rate_limits.model_copy(update={"enabled": False})
    config = config.model_copy(update={"rate_limits": limits})
    watched = Watched((os.getpid(),), (postmaster,))
    tokens = await made(config, dsn, folder, count)
    words = vocabulary(random.Random(7))
    rebuild.SHARE = 0.0  # type: ignore[misc]
    async with running(config) as (app, session):
        reader, everywhere = (Client(session, app.url, token) for token in tokens)
        await rebuilt(app, watched, count)
        sizes(dsn, count)
        room = (await reader.call("GET", "/joined_rooms"))["joined_rooms"][0]
        if "searches" in only:
            await searches(f"in {MINE} of {ROOMS} rooms", watched, reader, words, room)
            await searches(f"in all {ROOMS} rooms", watched, everywhere, words, room)
        if "indexing" in only:
            await indexing(app, watched, dsn, count)
        if "lag" in only:
            await lag(app, tokens[0], room)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="where the messages are, or are made and stay"
    )
    parser.add_argument("--only", default=",".join(MEASURED), help="some of these, with commas")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() if given.keep is None else nullcontext(given.keep) as folder,
        own_database(Path(folder), "search") as (_, dsn),
    ):
        print(describe(dsn), flush=True)
        migrate.apply(dsn)
        pid = int((Path(folder) / "postgres" / "postmaster.pid").read_text().split()[0])
        asyncio.run(measure(dsn, Path(folder), pid, given.messages, given.only.split(",")))


if __name__ == "__main__":
    main()
