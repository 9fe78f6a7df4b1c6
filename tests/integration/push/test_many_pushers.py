"""Many people of one room with phones: what a message costs the database then (PUSH-14, PUSH-15)."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from benchmarks.wire import Connection, Target
from homeserver.storage import connection
from tests.support import server as support_server
from tests.support.appservice import FakeService
from tests.support.postgres import Postgres
from tests.support.push_gateway import FakeGateway
from tests.support.server import Server
from tests.support.waiting import until
from tests.support.watchdog import Watchdog

CLIENT = "/_matrix/client/v3"
AT_ONCE = 16
MOST_FAILED = 4
WITHIN = 420
"""Seconds for a message to arrive at 20 000 phones on a machine that is busy."""
ASKED_FOR_PEOPLE = (
    "account_data",
    "forgotten_rooms",
    "memberships",
    "push_rules",
    "pushers",
    "receipts",
    "WITH recent",
    "FROM users",
)
"""In the statements with which somebody's rooms, rules, pushers and unread messages are found."""


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Statements of the whole process, by their text."""
    counts: Counter[str] = Counter()
    begun = ("BEGIN", "COMMIT", "ROLLBACK")
    real = connection.Connection.run

    async def run(self: connection.Connection, commands: Any) -> Any:
        texts = [" ".join(statement.sql.decode().split()) for statement, _ in commands]
        counts.update(text for text in texts if not text.startswith(begun))
        return await real(self, commands)

    with monkeypatch.context() as patch:
        patch.setattr(connection.Connection, "run", run)
        yield counts


class Phones:
    """What gateways have told each phone last, and of which events."""

    def __init__(self) -> None:
        self.shown: dict[str, int] = {}
        self.events: Counter[str] = Counter()
        """event_id -> phones that were told of it."""
        self.requests = self.failed = 0
        self._asked: Counter[str] = Counter()
        """Requests of each phone that have failed in a row."""
        self._half = False
        self._told: set[tuple[str, str]] = set()

    def begin(self, *, half: bool) -> None:
        """From now on half of all requests fails, of each phone at most `MOST_FAILED` in a row, or none does."""
        self._half, self.requests, self.failed = half, 0, 0
        self._asked.clear()

    def answer(self, notification: dict[str, Any]) -> int | None:
        self.requests += 1
        keys = [device["pushkey"] for device in notification["devices"]]
        before = self._asked[keys[0]]
        if self._half and before < MOST_FAILED and random.Random(f"{keys[0]} {before}").random() < 0.5:
            self._asked[keys[0]] += 1
            self.failed += 1
            return 500
        self._asked[keys[0]] = 0
        for key in keys:
            self.shown[key] = notification["counts"]["unread"]
            event_id = notification.get("event_id")
            if event_id is not None and (key, event_id) not in self._told:
                self._told.add((key, event_id))
                self.events[event_id] += 1
        return None


async def furnish(server: Server, service: FakeService, size: int) -> str:
    """A room with so many local people; who made it is the service's own user."""
    target = Target.parse(server.url)

    def request(path: str, body: object, who: str = service.sender_id) -> bytes:
        query = f"{path}?user_id={quote(who)}" if who else path
        return target.request("POST", f"{CLIENT}{query}", token=service.as_token, body=body)

    first = Connection(target)
    made = await first.succeed(request("/createRoom", {"preset": "public_chat", "name": "Everybody"}))
    room = str(made.json()["room_id"])
    numbers = iter(range(size))

    async def enter() -> None:
        line = Connection(target)
        for number in numbers:
            body = {
                "type": "m.login.application_service",
                "username": f"_irc_{number}",
                "inhibit_login": True,
            }
            await line.succeed(request("/register", body, ""))
            await line.succeed(request(f"/join/{quote(room)}", {}, f"@_irc_{number}:localhost"))
        line.close()

    await asyncio.gather(*(enter() for _ in range(AT_ONCE)))
    first.close()
    return room


async def give_phones(server: Server, urls: list[str], *, each: int) -> int:
    """So many pushers for every person, by turns at these gateways. Returns how many phones there are."""
    assert server.app is not None
    async with server.app.core.db.transaction() as tx:
        return await tx.execute(
            """
            INSERT INTO pushers (user_nid, app_id, pushkey, kind, device_id, enabled, set_ms, url, details)
            SELECT user_nid, 'org.example.app', user_id || ' ' || phone, 'http', NULL, true, 1,
                   (%(urls)s::text[])[1 + (user_nid + phone / 2) %% %(count)s], %(details)s
            FROM users, generate_series(1, %(each)s) AS phone WHERE user_id LIKE '@\\_irc\\_%%'
            """,
            urls=urls,
            count=len(urls),
            each=each,
            details=b'{"app_display_name":"App","device_display_name":"Phone","lang":"en",'
            b'"data":{"format":"event_id_only"}}',
        )


async def all_looked_at(server: Server) -> None:
    """Until the reader has gone through all that was written: the next process has nothing to do but what comes then."""
    assert server.app is not None
    db = server.app.core.db

    async def done() -> bool:
        async with db.read() as tx:
            behind = await tx.value(
                "SELECT (SELECT position FROM log_head) - (SELECT position FROM log_readers WHERE name = 'pushers')"
            )
        return bool(behind == 0)

    await until(done, within=60, every=0.1)


async def say(server: Server, service: FakeService, room: str, text: str) -> str:
    target = Target.parse(server.url)
    path = f"{CLIENT}/rooms/{quote(room)}/send/m.room.message/{text}?user_id={quote(service.sender_id)}"
    line = Connection(target)
    body = {"msgtype": "m.text", "body": text}
    sent = await line.succeed(target.request("PUT", path, token=service.as_token, body=body))
    line.close()
    return str(sent.json()["event_id"])


LOAD = (pytest.mark.load, pytest.mark.timeout(900))


@pytest.mark.parametrize(
    ("size", "fails"),
    [
        pytest.param(60, (False, False, True), id="some"),
        pytest.param(10_000, (False, False), id="10000", marks=LOAD),
        pytest.param(10_000, (True,), id="10000-half-fails", marks=LOAD),
    ],
)
async def test_a_message_costs_no_query_per_pusher(  # fixtures
    tmp_path: Path,
    postgres: Postgres,
    worker: str,
    migrated_template: str,
    monkeypatch: pytest.MonkeyPatch,
    watchdog: Watchdog,
    size: int,
    fails: tuple[bool, ...],
) -> None:
    """Two phones each at two gateways: by a process that knows nobody yet, and by one that does; also while half of all requests
    fails: who has failed three times is looked up alone then. Else statements are for many people together, whatever needs them. In
    the end each phone shows what is unread.
    """
    dsn = postgres.create(f"many_pushers_{worker}_{size}_{len(fails)}", template=migrated_template)
    service, phones, most = FakeService(), Phones(), dict[str, int]()
    sections: dict[str, Any] = {
        "outbound": {"allow_private": {"push": ["127.0.0.1/32"], "appservices": ["127.0.0.1/32"]}},
        "rate_limits": {"enabled": False},
        "appservices": {"registration_files": [str(service.file(tmp_path))]},
    }
    async with service, FakeGateway(answer=phones.answer) as one, FakeGateway(answer=phones.answer) as two:
        async with support_server.run(dsn, tmp_path, **sections) as server:
            room = await furnish(server, service, size)
            await all_looked_at(server)
            assert await give_phones(server, [one.url, two.url], each=2) == 2 * size
        async with support_server.run(dsn, tmp_path, **sections) as server:
            loop = asyncio.get_running_loop()
            for unread, half in enumerate(fails, 1):
                phones.begin(half=half)
                watchdog.longest = 0.0
                with counted(monkeypatch) as counts:
                    began = loop.time()
                    event_id = await say(server, service, room, f"message-{unread}")

                    async def told(event_id: str = event_id) -> bool:
                        return phones.events[event_id] == 2 * size

                    await until(told, within=WITHIN, every=0.05)
                    took = loop.time() - began
                assert len(phones.shown) == 2 * size
                assert set(phones.shown.values()) == {unread}
                for sql in list(counts):
                    if not any(name in sql for name in ASKED_FOR_PEOPLE):  # by what runs in the background
                        del counts[sql]
                print(
                    f"{size} people, message {unread}: {took:.1f} s, {counts.total()} statements,"
                    f" {phones.requests} requests, {phones.failed} failed, longest turn {watchdog.longest * 1000:.0f} ms"
                )
                for sql, count in counts.most_common(8):
                    print(f"{count:7} {sql[:140]}")
                if not half:
                    most[f"message {unread}"] = counts.total()
    assert max(most.values(), default=0) < 40 + size / 8, most
