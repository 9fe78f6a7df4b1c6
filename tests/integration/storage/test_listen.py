"""What one process announces, another hears."""

import asyncio
import contextlib

from homeserver.storage.database import Database
from homeserver.storage.listen import Hint, listen


async def test_announcements_are_heard_in_order_also_after_the_connection_was_lost(database: str) -> None:
    async with (
        Database(database) as db,
        contextlib.aclosing(listen(database, "news")) as news,
        asyncio.timeout(60),
    ):
        assert await anext(news) == Hint("news", "")

        async def announce(*payloads: str) -> None:
            async with db.transaction() as tx:
                for payload in payloads:
                    await tx.execute("SELECT pg_notify('news', %(payload)s)", payload=payload)

        await announce("1", "2")
        assert [await anext(news), await anext(news)] == [Hint("news", "1"), Hint("news", "2")]
        async with db.transaction() as tx:
            await tx.execute(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name = 'atrium-listen' AND datname = current_database()
                """
            )
        assert await anext(news) == Hint("news", ""), "after a gap: look for yourself"
        await announce("3")
        assert await anext(news) == Hint("news", "3")
