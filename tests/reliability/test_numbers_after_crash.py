"""A number that stands for a name is not given to somebody else after the database has crashed."""

from pathlib import Path

import psutil

from homeserver.graph.interning import Interning
from homeserver.matrix.ids import UserId
from homeserver.runtime.cache import MemoryBudget
from homeserver.storage import migrate
from homeserver.storage.database import Database
from homeserver.storage.embedded import EmbeddedPostgres
from tests.support import reaper


async def test_what_has_a_number_keeps_it_when_the_database_crashes(tmp_path: Path) -> None:
    """The process goes on, with the numbers that it remembers."""
    postgres = EmbeddedPostgres(tmp_path)
    postgres.start()
    try:
        migrate.apply(postgres.dsn)
        async with Database(postgres.dsn) as db:
            interning = Interning(db, MemoryBudget(1 << 20))
            users = await interning.user_nids([UserId("@alice:here"), UserId("@bob:here")])
            keys = await interning.key_nids([("m.room.member", "@alice:here")])
            assert postgres.pid is not None
            reaper.kill_tree(psutil.Process(postgres.pid))
        postgres.stop()
        postgres.start()
        async with Database(postgres.dsn) as db:
            async with db.read() as tx:
                assert dict(await tx.all("SELECT user_id, user_nid FROM users")) == users
                rows = await tx.all("SELECT type, state_key, key_nid FROM event_keys")
            assert {(kind, key): nid for kind, key, nid in rows} == keys
    finally:
        postgres.stop()
