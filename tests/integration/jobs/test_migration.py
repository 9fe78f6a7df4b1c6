"""What was still to be done for accounts when the schema changed is a job afterwards."""

import shutil
from pathlib import Path

import msgspec
import psycopg

from homeserver.accounts.ending import LEAVE
from homeserver.accounts.tasks import UserTask
from homeserver.storage import migrate
from tests.support.postgres import Postgres


def test_account_tasks_become_jobs(postgres: Postgres, worker: str, tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    for file in migrate.FOLDER.glob("*.sql"):
        if int(file.name[:4]) < 100:
            shutil.copy(file, before)
    name = f"tasks_{worker}"
    dsn = postgres.create(name)
    try:
        migrate.apply(dsn, folder=before)
        with psycopg.connect(dsn, autocommit=True) as connection:
            (nid,) = connection.execute(
                "INSERT INTO users (user_id) VALUES ('@alice:localhost') RETURNING user_nid"
            ).fetchone() or (0,)
            connection.execute("INSERT INTO accounts (user_nid, created_ms) VALUES (%s, 0)", (nid,))
            connection.execute(
                "INSERT INTO account_tasks (kind, user_nid, version, lease_until_ms) VALUES ('leave_rooms', %s, 3, 0)",
                (nid,),
            )
            migrate.apply(dsn)
            rows = connection.execute(
                "SELECT kind, key, payload, due_at <= now(), failed_at FROM jobs"
            ).fetchall()
        ((kind, key, payload, due, failed),) = rows
        assert (kind, key, due, failed) == (LEAVE.name, str(nid), True, None)
        assert msgspec.json.decode(payload, type=UserTask) == UserTask(nid)
    finally:
        postgres.drop(name)
