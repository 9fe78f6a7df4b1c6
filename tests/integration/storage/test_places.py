"""The embedded PostgreSQL is made and started wherever its folder is, whoever starts it."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from homeserver.storage import cluster, data_folder, system_user
from homeserver.storage.embedded import EmbeddedPostgres, find_programs
from homeserver.storage.errors import StorageError

ROOT = Path(__file__).parents[3]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
NOBODY = 65534
MAKE = """
import os, sys
from pathlib import Path
from homeserver.storage.embedded import EmbeddedPostgres
os.umask(0o077)
database = EmbeddedPostgres(Path(sys.argv[1]))
database.start()
print(Path(f"/proc/{database.pid}/status").read_text(), flush=True)
database.stop()
"""


def ask(database: EmbeddedPostgres) -> object:
    with psycopg.connect(database.dsn) as connection:
        row = connection.execute("SELECT 42").fetchone()
        return row[0] if row else None


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, too: `tmp_path` is closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="atrium-place-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def run_elsewhere(
    data: Path, *, python: str = sys.executable, packages: Path | None = None, user: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Make a database in another process, as another user, with umask 077; prints what the kernel says of PostgreSQL."""
    path = [str(ROOT), str(Path(psycopg.__file__).parents[1])]
    return subprocess.run(
        [python, "-c", MAKE, str(data)],
        **({} if user is None else {"user": user, "group": user, "extra_groups": []}),  # type: ignore[call-overload]
        cwd="/",
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ":".join([*([str(packages)] if packages else []), *path]),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "name",
    ['a  b it\'s "quoted" \\ %d $HOME 会社', "x" * 150],
    ids=["spaces, quotes and other scripts", "150 characters"],
)
def test_whatever_the_folder_is_called(tmp_path: Path, name: str) -> None:
    with EmbeddedPostgres(tmp_path / name) as database:
        assert ask(database) == 42
        assert database.log.exists()


def test_who_uses_a_database_of_a_long_path_need_not_have_the_same_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with systemd's PrivateTmp, or a TMPDIR of one terminal alone."""
    with EmbeddedPostgres(tmp_path / ("x" * 150)) as database:
        (tmp_path / "other").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "other"))
        with EmbeddedPostgres(tmp_path / ("x" * 150)).use() as dsn:
            assert "/other/" not in dsn
            assert ask(database) == 42


def test_a_long_folder_for_temporary_files_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("t" * 120)))
    with EmbeddedPostgres(tmp_path / ("x" * 150)) as database:
        assert ask(database) == 42


@AS_ROOT
def test_as_root_behind_a_closed_folder_it_runs_as_somebody_else(tmp_path: Path) -> None:
    """As in `/root`, programs, data and all."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    wheel = find_programs().parents[1]
    for part in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        subprocess.run(["cp", "-al", str(part), str(closed / part.name)], check=True)
    done = run_elsewhere(closed / "data", packages=closed)
    assert done.returncode == 0, done.stderr
    assert "\nUid:\t0\t" not in done.stdout
    assert closed.stat().st_mode & 0o777 == 0o700, "no permission was changed"
    assert (closed / "data").stat().st_mode & 0o777 == 0o700


@AS_ROOT
def test_where_everything_is_open_but_the_data_it_may_only_pass(open_folder: Path) -> None:
    """PostgreSQL keeps the right to read what is closed to it, since its folder is; none to write."""
    done = run_elsewhere(open_folder / "data")
    assert done.returncode == 0, done.stderr
    effective = next(line for line in done.stdout.splitlines() if line.startswith("CapEff:"))
    assert int(effective.split()[1], 16) == 1 << 2


@AS_ROOT
@pytest.mark.parametrize("user", [NOBODY, 54321], ids=["nobody", "without a name"])
def test_as_a_normal_user_it_runs_as_that_user(open_folder: Path, user: int) -> None:
    """One of whom `/etc/passwd` knows nothing, too."""
    os.chown(open_folder, user, user)
    done = run_elsewhere(open_folder / "data", python=_python_for(user), user=user)
    if user != NOBODY and "has no name" in done.stderr:
        pytest.skip("this system lends no names: user namespaces are forbidden")
    assert done.returncode == 0, done.stderr
    assert (open_folder / "data" / "postgres").stat().st_uid == user
    assert f"\nUid:\t{user}\t" in done.stdout


def test_that_a_user_has_no_name_is_told_where_none_can_be_lent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(1, "no user namespace")

    monkeypatch.setattr(system_user, "name_needed", lambda: NOBODY)
    monkeypatch.setattr(system_user, "_appear_as", forbidden)
    with pytest.raises(StorageError, match="has no name"):
        EmbeddedPostgres(tmp_path / "data").start()
    assert not list((tmp_path / "data").glob("postgres*"))


@AS_ROOT
def test_a_folder_of_root_is_refused_to_others_in_words(open_folder: Path) -> None:
    (open_folder / "data").mkdir(mode=0o700)
    done = run_elsewhere(open_folder / "data", python=_python_for(NOBODY), user=NOBODY)
    assert done.returncode == 1
    assert f"The data directory {open_folder}/data cannot be used: Permission denied" in done.stderr


# ----------------------------------------------------------------------------------------- a first start that is killed

FIRST = """
import sys
from pathlib import Path
from homeserver.storage.embedded import EmbeddedPostgres
EmbeddedPostgres(Path(sys.argv[1])).start()
"""


@pytest.mark.parametrize("stage", ["base", "global/pg_control", "base/5", "PG_VERSION"])
def test_a_first_start_that_was_killed_does_not_spoil_the_next(tmp_path: Path, stage: str) -> None:
    """What it left at work must not touch what the next one makes."""
    for attempt in range(10):
        data = tmp_path / f"data{attempt}"
        first = subprocess.Popen([sys.executable, "-c", FIRST, str(data)], cwd=ROOT)
        while first.poll() is None and not list(data.glob(f"postgres.new*/{stage}")):
            time.sleep(0.001)
        caught = first.poll() is None
        first.kill()
        first.wait()
        if caught and list(data.glob("postgres.new*")):
            break
    else:
        pytest.fail("it was over each time before anybody looked")
    with EmbeddedPostgres(data) as database:
        assert ask(database) == 42
    assert not list(data.glob("postgres.new*"))


def test_what_a_killed_first_start_left_at_work_is_ended(tmp_path: Path) -> None:
    """`initdb` removes what it made when it is told to stop: under the same name that would be the next one's."""
    data = tmp_path / "data"
    left = data / "postgres.new.left"
    left.mkdir(parents=True)
    program = tmp_path / "postgres"
    shutil.copy("/bin/sleep", program)
    worker = subprocess.Popen([str(program), "60"], cwd=left)
    try:
        until = time.monotonic() + 60
        while psutil.Process(worker.pid).name() != "postgres":
            assert time.monotonic() < until
        cluster.remove_leftovers(data)
        assert worker.wait(60) == -9
        assert not left.exists()
    finally:
        worker.kill()
        worker.wait()


# ------------------------------------------------------------------------------------------------ who may look into it


def test_the_data_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        data_folder.settle(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("mode", "holds", "then"),
    [
        (0o755, ["atrium.lock", "signing.key", "postgres"], 0o700),
        (0o711, [], 0o700),
        (0o750, ["atrium.lock"], 0o750),
        (0o755, ["atrium.lock", "Documents"], 0o755),
    ],
    ids=["of an earlier version", "new", "opened to a group", "somebody's home"],
)
def test_one_that_is_open_is_closed_unless_others_need_it(
    tmp_path: Path, mode: int, holds: list[str], then: int
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(mode)
    for name in holds:
        (folder / name).touch()
    data_folder.settle(folder)
    assert folder.stat().st_mode & 0o777 == then


def _python_for(user: int) -> str:
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        with contextlib.suppress(OSError):
            subprocess.run(
                [python, "-V"], user=user, group=user, extra_groups=[], check=True, capture_output=True
            )
            return python
    pytest.skip("no Python of this version is open to other users here")
