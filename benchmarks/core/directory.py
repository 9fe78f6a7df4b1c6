"""What finding people and rooms costs: `python -m benchmarks.core.directory --people 100000 --rooms 10000`.

Atrium in this process on a PostgreSQL of its own, as shipped (fsync on). People are written by COPY, rooms are made through the
API. Some minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.core.search import Client, running
from benchmarks.servers.database import describe, own_database
from homeserver.config import dev_config
from homeserver.storage import migrate

ROUNDS = 30
_FIRST = (
    "Anna",
    "Bob",
    "Clara",
    "Dmitri",
    "Élodie",
    "Fatima",
    "Göran",
    "Hana",
    "Ivan",
    "Jürgen",
    "花子",
    "Kwame",
)
_LAST = ("Smith", "Müller", "Garcia", "Иванов", "Nguyen", "Öztürk", "Kowalski", "山田", "Okafor", "Larsen")


def write_people(dsn: str, count: int) -> None:
    """By COPY, behind the server's back; their names are folded by the server when somebody looks for them."""
    chance = random.Random(3)
    with psycopg.connect(dsn) as connection:
        with connection.cursor().copy(b"COPY users (user_nid, user_id) FROM STDIN") as copy:
            for number in range(count):
                copy.write_row((1_000_000 + number, f"@{chance.choice(_FIRST).lower()}{number}:localhost"))
        connection.execute(
            "INSERT INTO accounts (user_nid, created_ms) SELECT user_nid, 0 FROM users WHERE user_nid >= 1000000"
        )
        with connection.cursor().copy(b"COPY profiles (user_nid, fields) FROM STDIN") as copy:
            for number in range(count):
                name = f"{chance.choice(_FIRST)} {chance.choice(_LAST)}-{number}"
                copy.write_row((1_000_000 + number, f'{{"displayname":"{name}"}}'.encode()))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE) users, accounts, profiles")


async def timed(what: str, client: Client, method: str, path: str, body: Any = None) -> None:
    """A line of the report."""
    times, used = [], 0.0
    for number in range(ROUNDS + 1):
        if number == 1:
            used = time.process_time()
        began = time.perf_counter()
        await client.call(method, path, body)
        times.append((time.perf_counter() - began) * 1000)
    cpu = (time.process_time() - used) / ROUNDS * 1000
    rest = sorted(times[1:])
    print(
        f"{what}: first {times[0]:.1f} ms, then median {statistics.median(rest):.1f}, p95 {rest[int(len(rest) * 0.95)]:.1f}; "
        f"{cpu:.1f} ms CPU here, without PostgreSQL",
        flush=True,
    )


async def measure(dsn: str, folder: Path, people: int, rooms: int) -> None:
    config = dev_config(port=0, data=folder).with_database(dsn)
    limits = config.rate_limits.model_copy(update={"enabled": False})
    config = config.model_copy(update={"rate_limits": limits})
    write_people(dsn, people)
    async with running(config) as (app, session):
        reader = await Client(session, app.url).person("reader")
        owner = await Client(session, app.url).person("owner")
        for start in range(0, rooms, 20):
            await asyncio.gather(
                *(
                    owner.call(
                        "POST",
                        "/createRoom",
                        {
                            "preset": "public_chat",
                            "visibility": "public",
                            "name": f"Room {n} of {_LAST[n % 10]}",
                            "topic": f"All about number {n}",
                        },
                    )
                    for n in range(start, min(rooms, start + 20))
                )
            )
    async with running(config) as (app, session):
        await report(Client(session, app.url, reader.token), people, rooms)


async def report(reader: Client, people: int, rooms: int) -> None:
    found = "/user_directory/search"
    for term in ("anna", "a", "мюллер", "иван", "山田", "muller-12", "anna smith", "nobody at all"):
        await timed(f"{people} people, {term!r}", reader, "POST", found, {"search_term": term})
    await timed(f"{rooms} rooms, first page of 100", reader, "GET", "/publicRooms?limit=100")
    for term in ("room", "oztu", "number 77", "nothing of this"):
        body = {"limit": 20, "filter": {"generic_search_term": term}}
        await timed(f"{rooms} rooms, {term!r}", reader, "POST", "/publicRooms", body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--rooms", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, own_database(Path(temporary), "directory") as (_, dsn):
        print(describe(dsn), flush=True)
        migrate.apply(dsn)
        asyncio.run(measure(dsn, Path(temporary), given.people, given.rooms))


if __name__ == "__main__":
    main()
