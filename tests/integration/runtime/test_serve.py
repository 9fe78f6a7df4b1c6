"""`atrium serve` as an operator sees it: how it starts, refuses, survives and ends."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from tests.support.process import HomeserverProcess, free_port

ATRIUM = Path(sys.executable).with_name("atrium")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve") / "data"


@pytest.fixture
def one(data: Path) -> Iterator[HomeserverProcess]:
    with HomeserverProcess(data) as server:
        yield server


@pytest.fixture
def two(data: Path) -> Iterator[HomeserverProcess]:
    with HomeserverProcess(data, processes=2) as server:
        yield server


def until(what: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def gone(pids: list[int]) -> bool:
    """Whether none of the processes runs any more (a zombie does not)."""
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return False
    return True


def below(server: HomeserverProcess) -> list[int]:
    return [process.pid for process in psutil.Process(server.pid).children(recursive=True)]


def atrium(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ATRIUM, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_within_ten_seconds_the_database_last(
    one: HomeserverProcess, how: int
) -> None:
    one.start()
    children = below(one)
    began = time.monotonic()
    os.kill(one.pid, how)
    until(lambda: not one.running)
    assert time.monotonic() - began < 10
    assert gone(children)
    assert "database system is shut down" in (one.data / "postgres.log").read_text().splitlines()[-1]


def test_it_says_once_that_it_serves_and_loudly_what_for(two: HomeserverProcess) -> None:
    two.start()

    def said() -> list[str]:
        return [line for line in two.last_output(1000).splitlines() if f"http://localhost:{two.port}" in line]

    until(lambda: len(said()) > 0)
    assert len(said()) == 1
    assert "Atrium serves localhost" in said()[0]
    assert "DEVELOPMENT ONLY" in said()[0]


def test_a_worker_that_is_killed_is_started_again(two: HomeserverProcess) -> None:
    two.start()
    until(lambda: len(two.worker_pids()) == 2)
    first, second = two.worker_pids()
    os.kill(first, signal.SIGKILL)
    until(lambda: len(set(two.worker_pids()) - {first, second}) == 1)
    assert second in two.worker_pids()
    two.wait_ready()
    assert two.terminate() == 0


def test_nothing_outlives_a_killed_supervisor(two: HomeserverProcess) -> None:
    two.start()
    children = below(two)
    os.kill(two.pid, signal.SIGKILL)  # it alone, not its group
    until(lambda: gone(children))
    two.start()
    assert two.terminate() == 0


def test_a_database_that_died_is_revived_under_the_server(one: HomeserverProcess) -> None:
    one.start()
    postgres = next(p for p in psutil.Process(one.pid).children() if "postgres" in p.name())
    postgres.kill()
    until(
        lambda: any(
            "postgres" in p.name() and p.pid != postgres.pid for p in psutil.Process(one.pid).children()
        )
    )

    def registers() -> bool:
        body = b'{"username": "after", "password": "the crash", "auth": {"type": "m.login.dummy"}}'
        url = f"{one.base_url}/_matrix/client/v3/register"
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, body, method="POST"), timeout=10
            ) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            return b"M_USER_IN_USE" in error.read()
        except OSError:
            return False

    until(registers, 60)


def test_all_processes_find_back_to_a_database_that_died(two: HomeserverProcess) -> None:
    """Whatever they were doing when it died: nobody waits for ever, and nobody stays away."""
    before = two.last_output(100_000).count("Atrium serves")  # of tests that had the same folder
    two.start()
    # Both: who cannot even start ends the server.
    until(lambda: two.last_output(100_000).count("Atrium serves") > before)
    statuses: list[int] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(f"{two.base_url}/health", timeout=15) as answer:
                statuses.append(answer.status)
        except urllib.error.HTTPError as error:
            statuses.append(error.code)

    for _ in range(3):
        postgres = next(p for p in psutil.Process(two.pid).children() if "postgres" in p.name())
        postgres.kill()
        statuses.clear()

        def all_answer() -> bool:
            ask()  # each time by a new connection, which either process may get
            return statuses[-12:] == [200] * 12

        until(all_answer, 60)


def test_the_port_the_system_chose_is_told(tmp_path: Path, data: Path) -> None:
    process = subprocess.Popen(
        [ATRIUM, "serve", "--dev", "--port", "0", "--data", str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as output:
        url = next(word for word in output.readline().split() if word.startswith("http://"))
        with urllib.request.urlopen(f"{url}/_matrix/client/versions", timeout=60) as answer:
            assert answer.status == 200
        process.terminate()
        assert process.wait(60) == 0


def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for processes in ("1", "2"):
            done = atrium(
                *(
                    "serve",
                    "--dev",
                    "--port",
                    str(port),
                    "--data",
                    str(tmp_path / "data"),
                    "--processes",
                    processes,
                )
            )
            assert done.returncode == 1
            assert done.stderr == f"Another program already listens on 127.0.0.1 port {port}\n"
    assert not (tmp_path / "data").exists()


def test_two_servers_on_one_data_directory_are_refused(one: HomeserverProcess) -> None:
    one.start()
    done = atrium("serve", "--dev", "--port", str(free_port()), "--data", str(one.data))
    assert done.returncode == 1
    assert f"process {one.pid}" in done.stderr


def test_dev_refuses_an_address_that_others_can_reach(tmp_path: Path) -> None:
    done = atrium("serve", "--dev", "--address", "0.0.0.0", "--data", str(tmp_path))
    assert done.returncode != 0
    assert "this machine only" in done.stderr


@pytest.mark.parametrize(
    "option", [["--port", "9"], ["--address", "127.0.0.1"], ["--data", "x"], ["--server-name", "a.b"]]
)
def test_an_option_that_would_count_for_nothing_is_refused(tmp_path: Path, option: list[str]) -> None:
    """Whoever says --port means it; the configuration file would have said otherwise, without a word."""
    (tmp_path / "config.yaml").write_text("server: {name: a.b}")
    refused = atrium("serve", "--config", str(tmp_path / "config.yaml"), *option)
    assert refused.returncode == 2
    assert refused.stderr == f"{option[0]} is for --dev; here the configuration file says so\n"


def test_dev_reads_no_file(tmp_path: Path) -> None:
    refused = atrium("serve", "--dev", "--config", str(tmp_path / "config.yaml"), "--data", str(tmp_path))
    assert refused.returncode == 2
    assert refused.stderr == "--config does not go with --dev, which reads no file\n"


def test_it_says_which_version_it_is() -> None:
    assert atrium("--version").stdout == f"Atrium {version('atrium-homeserver')}\n"


def test_a_wrong_option_is_named_with_its_path_before_anything_starts(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("server: {name: a.b, nmae: c}\nlisteners: [{port: -1}]\n")
    done = atrium("serve", "--config", str(config))
    assert done.returncode == 2
    assert "server.nmae: there is no such option; did you mean name?" in done.stderr
    assert "listeners.0.port" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_foreign_database_with_another_schema_is_refused_with_the_command(
    tmp_path: Path, postgres: object, worker: str
) -> None:
    dsn = postgres.create(f"foreign_{worker}")  # type: ignore[attr-defined]
    config = tmp_path / "config.yaml"
    config.write_text(f"server: {{name: a.b}}\nlisteners: [{{port: {free_port()}}}]\n")
    done = atrium("serve", "--config", str(config), ATRIUM__DATABASE__URL=dsn)
    assert done.returncode == 1
    assert "atrium migrate" in done.stderr
    done = atrium("migrate", "--config", str(config), ATRIUM__DATABASE__URL=dsn)
    assert done.returncode == 0, done.stderr
    assert "Applied" in done.stdout
    postgres.drop(f"foreign_{worker}")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "command", ["migrate", "restored --yes", "serve", "doctor", "user create x --password 12345678"]
)
def test_every_command_says_in_words_that_there_is_no_database(tmp_path: Path, command: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"server: {{name: a.b}}\nlisteners: [{{port: {free_port()}}}]\n")
    nowhere = f"host=127.0.0.1 port={free_port()} dbname=x"
    done = atrium(*command.split(), "--config", str(config), ATRIUM__DATABASE__URL=nowhere)
    assert done.returncode == 1
    assert "The database" in done.stdout + done.stderr
    assert "refused" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_init_writes_nothing_when_told_something_impossible(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    done = atrium("init", "--server-name", "a.b", "--address", "everywhere", "--config", str(config))
    assert done.returncode == 1
    assert "an IP address is expected" in done.stderr
    assert not config.exists()


def test_init_doctor_and_check_agree_on_a_new_set_up(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    done = atrium("init", "--server-name", "example.com", "--config", str(config))
    assert done.returncode == 0, done.stderr
    assert config.stat().st_mode & 0o077 == 0
    assert (tmp_path / "data" / "signing.key").stat().st_mode & 0o077 == 0
    assert atrium("config", "check", "--config", str(config)).returncode == 0
    again = atrium("init", "--server-name", "other.org", "--config", str(config))
    assert again.returncode == 1
    assert "exists already" in again.stderr
    done = atrium("doctor", "--config", str(config), ATRIUM__LISTENERS=f"[{{port: {free_port()}}}]")
    assert done.returncode == 0, done.stdout
    assert "Nothing is wrong." in done.stdout
    (tmp_path / "data" / "signing.key").chmod(0o644)
    done = atrium("doctor", "--config", str(config))
    assert done.returncode == 1
    assert "chmod 600" in done.stdout


@pytest.mark.parametrize("processes", ["1", "2"])
def test_another_name_is_refused_in_words_by_every_command(
    one: HomeserverProcess, tmp_path: Path, processes: str
) -> None:
    one.start()
    one.terminate()
    config = tmp_path / "config.yaml"
    data = one.data
    config.write_text(
        f"server: {{name: other.example, data_dir: {data}}}\nlisteners: [{{port: {free_port()}}}]\n"
    )
    for command in (f"serve --processes {processes}", "user list", "doctor"):
        done = atrium(*command.split(), "--config", str(config))
        said = done.stdout + done.stderr
        assert done.returncode == 1
        assert "This database belongs to the server localhost" in said
        assert "Traceback" not in said
