"""One-time keys lie in packs, and it cannot be seen: CHECKLIST E2E-01 to E2E-03."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import psycopg
import pytest

from homeserver.e2ee import one_time_store, uploads
from homeserver.storage.database import Database
from homeserver.storage.migrate import FOLDER
from tests.support.crypto import claim, some_key
from tests.support.graph import process
from tests.support.server import Server
from tests.support.user import User

ALGORITHMS = ("signed_curve25519", "org.example.other")
Named = dict[str, str]


class Model:
    """What is there, key by key."""

    def __init__(self, device: User, other: User) -> None:
        self.device, self.other = device, other
        self.waiting: Named = {}
        self.given: Named = {}

    async def upload(self, keys: Named) -> None:
        refused = any(self.waiting.get(name, key) != key for name, key in keys.items())
        answer = await self.device.post(
            "/keys/upload",
            json={"one_time_keys": keys},
            expect=(400, "M_INVALID_PARAM") if refused else 200,
        )
        if refused:
            return
        for name, key in keys.items():
            if name not in self.waiting and self.given.get(name) != key:
                self.waiting[name] = key
                self.given.pop(name, None)
        assert answer["one_time_key_counts"] == self.counts()

    async def claim(self, algorithm: str) -> None:
        expected = next(((n, k) for n, k in self.waiting.items() if n.startswith(algorithm)), None)
        assert await claim(self.other, self.device, algorithm=algorithm) == expected
        if expected is not None:
            del self.waiting[expected[0]]
            self.given[expected[0]] = expected[1]

    def counts(self) -> dict[str, int]:
        names = [name.partition(":")[0] for name in self.waiting]
        return {algorithm: names.count(algorithm) for algorithm in names}


def fresh(number: int, algorithm: str = ALGORITHMS[0]) -> Named:
    return {f"{algorithm}:{some_key()}": some_key() for _ in range(number)}


@pytest.mark.parametrize("seed", range(3))
async def test_keys_come_and_go_as_if_each_lay_by_itself(server: Server, seed: int) -> None:
    chance = random.Random(seed)
    model = Model(await server.register("alice"), await server.register("bob"))
    for _ in range(150):
        keys = fresh(chance.choice((1, 1, 2, 7, 9, 60)), chance.choice(ALGORITHMS))
        match chance.randrange(8):
            case 0 | 1:
                await model.upload(keys)
            case 2:
                await model.upload({**fresh(2, ALGORITHMS[0]), **fresh(1, ALGORITHMS[1])})
            case 3 if model.waiting:  # again, and perhaps another key under a name in use
                again = dict(chance.sample(sorted(model.waiting.items()), min(3, len(model.waiting))))
                other = dict.fromkeys(list(again)[: chance.randrange(2)], some_key())
                await model.upload({**keys, **again, **other})
            case 4 if model.given:
                again = dict(chance.sample(sorted(model.given.items()), min(3, len(model.given))))
                other = dict.fromkeys(list(again)[: chance.randrange(2)], some_key())
                await model.upload({**again, **other})
            case _:
                for _ in range(chance.choice((1, 1, 20))):
                    await model.claim(chance.choice(ALGORITHMS))
    reply = await model.device.sync()
    assert reply["device_one_time_keys_count"] == {ALGORITHMS[0]: 0, **model.counts()}


async def test_uploads_of_a_device_at_once_are_as_one_after_the_other(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    shared = fresh(5)
    sent = [{**fresh(number % 12), **shared} for number in range(30)]
    answers = await asyncio.gather(
        *(alice.post("/keys/upload", json={"one_time_keys": keys}) for keys in sent)
    )
    expected = {name: key for keys in sent for name, key in keys.items()}
    counts = [answer["one_time_key_counts"][ALGORITHMS[0]] for answer in answers]
    assert max(counts) == len(expected)
    given = await asyncio.gather(*(claim(bob, alice) for _ in range(len(expected) + 3)))
    assert given.count(None) == 3
    assert dict(each for each in given if each is not None) == expected


async def test_of_two_keys_of_one_name_uploaded_at_once_one_is_refused(server: Server) -> None:
    """E2E-02."""
    alice, bob = await server.register("alice"), await server.register("bob")
    [name] = fresh(1)
    bodies = [{"one_time_keys": {name: some_key()}} for _ in range(8)]
    answers = await asyncio.gather(
        *(alice.exchange("POST", "/keys/upload", json=body, expect=None) for body in bodies)
    )
    [taken] = [number for number, answer in enumerate(answers) if answer.status == 200]
    assert await claim(bob, alice) == (name, bodies[taken]["one_time_keys"][name])
    assert await claim(bob, alice) is None


async def test_keys_given_out_are_remembered_for_a_while(
    fresh_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E2E-03: the last of them at least, and not for ever; clients replace keys one by one."""
    monkeypatch.setattr(uploads, "REMEMBERED", 20)
    model = Model(await fresh_server.register("alice"), await fresh_server.register("bob"))
    await model.upload(fresh(30))
    for _ in range(150):
        await model.claim(ALGORITHMS[0])
        await model.upload(fresh(1))
    await model.upload(dict(list(model.given.items())[-20:]))
    assert fresh_server.dsn is not None
    with psycopg.connect(fresh_server.dsn) as connection:
        row = connection.execute(
            "SELECT count(*), sum(cardinality(ids)), (SELECT sum(total - given) FROM one_time_queues) FROM one_time_packs"
        ).fetchone()
    assert row is not None
    packs, given = row[0], row[1] - row[2]
    assert given <= 20 + 30
    assert packs <= 2 + (30 + given) / uploads.SMALL_PACK


MIGRATION, QUEUES = FOLDER / "0075-one-time-packs.sql", FOLDER / "0270-one-time-queues.sql"
BEFORE = """
    CREATE TABLE one_time_keys (
        key_nid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_nid bigint NOT NULL, device_id text NOT NULL,
        algorithm text NOT NULL, key_id text NOT NULL, key bytea NOT NULL, claimed boolean NOT NULL DEFAULT false
    )
"""


async def test_keys_of_before_wait_in_their_order(database: str, tmp_path: Any) -> None:
    """E2E-03: and what was given out of them is remembered."""
    names = [f"{algorithm}:k{number}" for number in range(130) for algorithm in ALGORITHMS]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP TABLE one_time_packs, one_time_queues")
        connection.execute(BEFORE)
    async with process(database, tmp_path) as one:
        alice = await one.user("alice")
    with psycopg.connect(database, autocommit=True) as connection:
        for number, name in enumerate(names):
            algorithm, _, key_id = name.partition(":")
            connection.execute(
                "INSERT INTO one_time_keys (user_nid, device_id, algorithm, key_id, key, claimed)"
                " VALUES (%s, %s, %s, %s, %s, %s)",
                (alice.user_nid, alice.device_id, algorithm, key_id, f'"{name}"'.encode(), number < 40),
            )
        connection.execute(MIGRATION.read_text().encode())
        rows = connection.execute(
            "SELECT algorithm, given, spent, ids, ends, keys FROM one_time_packs ORDER BY pack_nid"
        ).fetchall()
    assert _keys(rows, given=True) == _expected(names[:40])
    assert _keys(rows, given=False) == _expected(names[40:])
    assert all(len(row[3]) <= 50 for row in rows)


async def test_packs_of_before_are_given_out_from_where_they_were(database: str, tmp_path: Any) -> None:
    """E2E-03: no key twice, in their order, and no more waits than before."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP TABLE one_time_packs, one_time_queues")
        connection.execute(BEFORE)
        connection.execute(MIGRATION.read_text().encode())
    async with process(database, tmp_path) as one:
        alice, bob = await one.user("alice"), await one.user("bob")
    packs = [
        (alice, "a", 3, 3), (alice, "b", 1, 1), (alice, "a", 4, 2), (bob, "a", 2, 0), (alice, "a", 3, 0), (alice, "b", 2, 0),
    ]  # fmt: skip
    with psycopg.connect(database, autocommit=True) as connection:
        for number, (owner, algorithm, size, given) in enumerate(packs):
            keys = [f'"{number}.{place}"' for place in range(size)]
            connection.execute(
                "INSERT INTO one_time_packs (user_nid, device_id, algorithm, given, spent, ids, ends, keys)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    owner.user_nid,
                    owner.device_id,
                    algorithm,
                    given,
                    given == size,
                    [f"{number}.{place}" for place in range(size)],
                    list(accumulate(map(len, keys))),
                    "".join(keys).encode(),
                ),
            )
        connection.execute(QUEUES.read_text().encode())
    found = []
    async with Database(database) as db:
        for _ in range(6):
            async with db.transaction() as tx, tx.pipeline() as batch:
                counted = one_time_store.count_waiting(batch, alice.user_nid, alice.device_id or "")
                claimed = one_time_store.claim(batch, [(alice.user_nid, alice.device_id or "", "a")])
            found.append((sorted(counted.result), [(each.key_id, each.key) for each in claimed.result]))
    places = ["2.2", "2.3", "4.0", "4.1", "4.2"]
    assert found == [
        *(([("a", 5 - n), ("b", 2)], [(place, f'"{place}"'.encode())]) for n, place in enumerate(places)),
        ([("b", 2)], []),
    ]


def _keys(rows: Iterable[tuple[Any, ...]], *, given: bool) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for algorithm, count, spent, ids, ends, keys in rows:
        assert count == (len(ids) if spent else 0)
        if spent is given:
            starts = [0, *ends]
            found.setdefault(algorithm, []).extend(
                (key_id, keys[start:end].decode())
                for key_id, start, end in zip(ids, starts, ends, strict=False)
            )
    return found


def _expected(names: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        algorithm, _, key_id = name.partition(":")
        found.setdefault(algorithm, []).append((key_id, f'"{name}"'))
    return found
