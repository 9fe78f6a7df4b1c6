"""The embedded PostgreSQL starts again, whatever was left of its last life."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from homeserver.storage.embedded import EmbeddedPostgres
from homeserver.storage.errors import DatabaseBusy, StorageError

ROOT = Path(__file__).parents[3]
OWNER = """
import sys, time
from pathlib import Path
from homeserver.storage.embedded import EmbeddedPostgres
database = EmbeddedPostgres(Path(sys.argv[1]))
database.start()
print(database.pid, flush=True)
time.sleep(60)
"""
BUSY = (
    "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 1000000) b WHERE a + b < 0 -- busy"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a cluster in it, made once: initdb is the slow part."""
    folder = tmp_path_factory.mktemp("cluster") / "data"
    with EmbeddedPostgres(folder) as database, psycopg.connect(database.dsn) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (42)")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-a", str(made), str(tmp_path / "data")], check=True)
    return tmp_path / "data"


@pytest.fixture
def database(folder: Path) -> Iterator[EmbeddedPostgres]:
    database = EmbeddedPostgres(folder)
    yield database
    database.stop()


def ask(database: EmbeddedPostgres, sql: str = "SELECT n FROM kept") -> object:
    with psycopg.connect(database.dsn) as connection:
        row = connection.execute(sql).fetchone()  # type: ignore[arg-type]
        return row[0] if row else None


def owner_of(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """Another process that started PostgreSQL there, and PostgreSQL's process number."""
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as output:
        return process, int(output.readline())


def test_it_is_durable_utf8_sorted_by_bytes_and_not_on_the_network(database: EmbeddedPostgres) -> None:
    database.start()
    assert ask(database) == 42
    for setting, value in {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "server_encoding": "UTF8",
        "listen_addresses": "",
        "jit": "off",
        "wal_level": "replica",
        "data_checksums": "on",
    }.items():
        assert ask(database, f"SHOW {setting}") == value, setting
    assert ask(database, "SELECT 'Z' < 'a' AND lower('Ä') = 'ä'") is True
    mode = (database.directory / "postgres").stat().st_mode
    assert mode & 0o077 == 0, "nobody else may reach the socket or the files"


def test_it_starts_in_less_than_a_second_and_stops_with_us(database: EmbeddedPostgres) -> None:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        database.start()
        times.append(time.perf_counter() - began)
        pid = database.pid
        assert pid is not None
        database.stop()
        assert not Path(f"/proc/{pid}").exists()
    assert min(times) < 1.0


def test_a_second_owner_is_refused_but_may_use_it(database: EmbeddedPostgres, folder: Path) -> None:
    database.start()
    other = EmbeddedPostgres(folder)
    with pytest.raises(DatabaseBusy, match=str(os.getpid())):
        other.start()
    with other.use() as dsn:
        assert dsn == database.dsn
        assert ask(database) == 42
    assert database.alive, "who only used it does not stop it"


def test_without_an_owner_using_it_starts_and_stops_it(database: EmbeddedPostgres) -> None:
    with database.use():
        assert ask(database) == 42
    assert database.pid is None


def test_it_ends_when_its_owner_is_killed_and_starts_for_the_next(
    database: EmbeddedPostgres, folder: Path
) -> None:
    owner, postgres = owner_of(folder)
    owner.kill()
    owner.wait()
    database.start()  # finds it running, or stopping
    assert database.pid not in {None, postgres}
    assert ask(database) == 42


def test_after_a_power_cut_it_recovers_what_was_committed(database: EmbeddedPostgres, folder: Path) -> None:
    owner, postgres = owner_of(folder)
    with psycopg.connect(database.dsn) as connection:
        connection.execute("UPDATE kept SET n = 43")
    os.kill(postgres, signal.SIGKILL)
    owner.kill()
    owner.wait()
    database.start()
    assert ask(database) == 43


def test_killed_under_us_it_is_revived_with_its_data(database: EmbeddedPostgres) -> None:
    database.start()
    assert database.pid is not None
    os.kill(database.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not database.alive:
            database.revive()
        with contextlib.suppress(psycopg.OperationalError):
            assert ask(database) == 42
            break
        time.sleep(0.05)
    else:
        pytest.fail("it did not come back")


def test_what_a_killed_postgresql_left_running_does_not_work_on_beside_the_next(
    database: EmbeddedPostgres,
) -> None:
    """A backend notices that its postmaster is gone only when it waits for something."""
    database.start()
    few = "-c statement_timeout=20s"
    with psycopg.connect(database.dsn, options=few) as connection, ThreadPoolExecutor() as threads:
        backend = psutil.Process(connection.info.backend_pid)
        busy = threads.submit(connection.execute, BUSY)
        while ask(database, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%-- busy'") != 1:
            time.sleep(0.01)
        assert database.pid is not None
        os.kill(database.pid, signal.SIGKILL)
        while database.alive:
            time.sleep(0.01)
        assert backend.is_running()
        database.revive()
        assert not backend.is_running() or backend.status() == psutil.STATUS_ZOMBIE
        assert isinstance(busy.exception(timeout=60), psycopg.OperationalError)
    database.stop()
    database.start()
    assert ask(database) == 42


@pytest.mark.parametrize("whose", ["our own", "a stranger's", "nobody's"])
def test_a_lock_of_an_earlier_life_does_not_stop_it(
    database: EmbeddedPostgres, folder: Path, whose: str
) -> None:
    """As in a container that was stopped, committed and started: the number belongs to somebody else by now."""
    pid = {"our own": os.getpid(), "a stranger's": 1, "nobody's": 4_000_000}[whose]
    cluster = folder / "postgres"
    (cluster / "postmaster.pid").write_text(
        f"{pid}\n{cluster}\n1700000000\n5432\n{cluster}\n\n  1234 5678\nready   \n"
    )
    (cluster / ".s.PGSQL.5432.lock").write_text(f"{pid}\n{cluster}\n1700000000\n5432\n{cluster}\n")
    database.start()
    assert ask(database) == 42


def test_a_lock_cut_off_while_it_was_written_does_not_stop_it(
    database: EmbeddedPostgres, folder: Path
) -> None:
    (folder / "postgres" / "postmaster.pid").write_text("")
    database.start()
    assert ask(database) == 42


def test_a_copy_of_a_running_directory_starts_beside_it(database: EmbeddedPostgres, tmp_path: Path) -> None:
    database.start()
    subprocess.run(["cp", "-a", str(database.directory), str(tmp_path / "copy")], check=True)
    with EmbeddedPostgres(tmp_path / "copy") as copy:
        assert ask(copy) == 42
        assert copy.pid != database.pid


def test_an_interrupted_first_start_leaves_nothing_half_made(tmp_path: Path, made: Path) -> None:
    folder = tmp_path / "data"
    (folder / "postgres.new" / "base").mkdir(parents=True)
    with EmbeddedPostgres(folder) as database:
        assert ask(database, "SELECT 1") == 1
    assert not (folder / "postgres.new").exists()


def test_a_path_too_long_for_a_socket_is_no_obstacle(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    subprocess.run(["cp", "-a", str(made), str(folder)], check=True)
    with EmbeddedPostgres(folder) as database:
        assert ask(database) == 42
        sockets = Path(database.dsn.split("'")[1])
        assert sockets.stat().st_mode & 0o077 == 0
    assert not sockets.exists()


def test_own_settings_are_kept(database: EmbeddedPostgres, folder: Path) -> None:
    (folder / "postgres" / "local.conf").write_text("work_mem = 9MB\n")
    database.start()
    assert ask(database, "SHOW work_mem") == "9MB"


def test_what_postgresql_complains_about_is_told(database: EmbeddedPostgres, folder: Path) -> None:
    (folder / "postgres" / "local.conf").write_text("work_mem = plenty\n")
    with pytest.raises(StorageError, match="work_mem"):
        database.start()


def test_another_major_version_is_refused(database: EmbeddedPostgres, folder: Path) -> None:
    (folder / "postgres" / "PG_VERSION").write_text("15\n")
    with pytest.raises(StorageError, match="PostgreSQL 15"):
        database.start()
