"""Mails about what is unread, by two processes: each letter once, and none is lost with the process that was about to send it."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.support import mailbox as support_mailbox
from tests.support.cluster import all_serve, workers
from tests.support.mailbox import Mailbox, text_of
from tests.support.postgres import Postgres
from tests.support.process import ConfiguredProcess
from tests.support.server import Server, of_process
from tests.support.user import User
from tests.support.waiting import until, until_sync

pytestmark = [pytest.mark.reliability, pytest.mark.slow, pytest.mark.timeout(300)]

READERS = 12


async def sql(dsn: str, statement: Any, *values: Any) -> list[Any]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        return await (await connection.execute(statement, values)).fetchall()


async def reader(server: Server, dsn: str, name: str) -> User:
    """Somebody who wants mail and is not here."""
    user = await server.register(name)
    address = f"{user.localpart}@example.com"
    await sql(
        dsn,
        """
        INSERT INTO threepids (medium, address, user_nid, validated_ms, added_ms)
        SELECT 'email', %s, user_nid, 1, 1 FROM users WHERE user_id = %s RETURNING 1
        """,
        address,
        user.user_id,
    )
    body = {"kind": "email", "app_id": "m.email", "pushkey": address, "lang": "en", "data": {}}
    names = {"app_display_name": "Email", "device_display_name": address}
    await user.post("/pushers/set", json=body | names)
    return user


def who_waits(process: ConfiguredProcess, mailbox: Mailbox) -> int:
    """The process that is about to hand over a letter."""
    for pid in workers(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            for connection in psutil.Process(pid).net_connections("tcp"):
                if connection.laddr.port in mailbox.held:
                    return pid
    raise AssertionError("nobody waits")


async def nothing_is_planned(dsn: str) -> None:
    """Until every look was, and every letter is noted."""

    async def idle() -> bool:
        jobs = await sql(dsn, "SELECT 1 FROM jobs WHERE kind = 'push.mail'")
        return not jobs and not await sql(
            dsn, "SELECT 1 FROM mail_digests WHERE due_at IS NOT NULL OR run = 0 OR letter_upto IS NOT NULL"
        )

    await until(idle, within=60, every=0.1)


async def test_each_letter_once_and_none_is_lost(
    tmp_path: Path, postgres: Postgres, worker: str, migrated_template: str
) -> None:
    """PUSH-16: kill -9 to the process that has taken the job and has the mail server on the line: the other one sends it."""
    dsn = postgres.create(f"push_mail_{worker}", template=migrated_template)
    async with support_mailbox.running() as mailbox:
        mail = {
            "host": "127.0.0.1",
            "port": mailbox.port,
            "security": "none",
            "sender": "Atrium <noreply@matrix.test>",
            "notification_delay": 1,
        }
        sections: dict[str, Any] = {
            "server": {"public_baseurl": "https://matrix.test"},
            "rate_limits": {"enabled": False},
            "mail": mail,
        }
        with ConfiguredProcess(tmp_path / "data", dsn, processes=2, **sections) as process:
            await asyncio.to_thread(process.start)
            await asyncio.to_thread(until_sync, lambda: all_serve(process, 2), 60, 0.1)
            server = of_process(process)
            alice = await server.register("alice")
            room = await alice.create_room(preset="public_chat", name="Lobby")
            bob = await reader(server, dsn, "bob")
            await bob.join(room)

            mailbox.hold = asyncio.Event()
            await alice.send(room, "not lost")

            async def waits() -> bool:
                return bool(mailbox.held)

            await until(waits, within=60)
            await asyncio.to_thread(os.kill, who_waits(process, mailbox), signal.SIGKILL)
            mailbox.hold.set()
            mailbox.hold = None
            # As if the lease of the process that is no more had run out.
            taken = "UPDATE jobs SET due_at = now() WHERE kind = 'push.mail' AND owner IS NOT NULL RETURNING attempts"
            assert await sql(dsn, taken) == [(1,)]
            letter = await mailbox.next(60)
            assert letter["To"] == f"{bob.localpart}@example.com"
            assert "not lost" in text_of(letter)
            await nothing_is_planned(dsn)
            assert mailbox.empty()

            await asyncio.to_thread(until_sync, lambda: all_serve(process, 2), 60, 0.1)
            room = await alice.create_room(preset="public_chat", name="Hall")
            readers = [await reader(server, dsn, f"reader{number}") for number in range(READERS)]
            for user in readers:
                await user.join(room)
            await alice.send(room, "for each once")
            letters = [await mailbox.next(60) for _ in readers]
            await nothing_is_planned(dsn)
            assert mailbox.empty()
            assert Counter(str(each["To"]) for each in letters) == Counter(
                f"{user.localpart}@example.com" for user in readers
            )
            assert len({str(each["Message-ID"]) for each in letters}) == READERS
            await server.close()
