"""Element Call in two Chromiums, over a LiveKit server: they see and hear each other, and whoever is gone leaves the call.

Run by hand: `ATRIUM_LIVEKIT` names the LiveKit server's program (`call/README.md` says how it is built). The pictures of every
step lie in `tests/browser/out/call/<case>` afterwards, for people to look at.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import nio
import pytest
from typing_extensions import override

from tests.browser.page_server import serving
from tests.interop.nio_person import accepted
from tests.interop.plays import CACHE, REPOSITORY, Answer, Asked, Play, install, need_node
from tests.support.federation import Federation
from tests.support.livekit import KEY, SECRET, signed
from tests.support.process import ConfiguredProcess, free_port
from tests.support.server import running

pytestmark = pytest.mark.interop

SOURCES = Path(__file__).parent / "call"
PICTURES = REPOSITORY / "tests" / "browser" / "out" / "call"
BUILD_SECONDS = 120


@pytest.fixture(scope="module")
def livekit_program() -> str:
    program = os.environ.get("ATRIUM_LIVEKIT")
    if not program:
        pytest.skip("ATRIUM_LIVEKIT does not name a livekit-server (tests/interop/call/README.md)")
    return program


@pytest.fixture(scope="module")
def chromium(livekit_program: str) -> str:
    del livekit_program
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("Chromium is not installed")
    return found


@pytest.fixture(scope="module")
def page(chromium: str) -> Path:
    """The folder with the host's page and Element Call, built from the npm packages."""
    del chromium
    need_node()
    folder = install(SOURCES, CACHE / "call")
    done = subprocess.run(
        ["node", "build.mjs", "page"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"building the page failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return folder / "page"


class RealLiveKit:
    """A LiveKit server on loopback that makes no rooms by itself and tells our server what happens."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        self.port, self._udp, self._tcp = free_port(), free_port(), free_port()
        self.url = f"ws://127.0.0.1:{self.port}"
        self._config = folder / "livekit.yaml"
        self._output = folder / "livekit.output"

    @contextlib.contextmanager
    def running(self, homeserver_url: str) -> Iterator[None]:
        """Until the block ends."""
        config = {
            "port": self.port,
            "bind_addresses": ["127.0.0.1"],
            "rtc": {
                "udp_port": self._udp,
                "tcp_port": self._tcp,
                "node_ip": "127.0.0.1",
                "use_external_ip": False,
                "enable_loopback_candidate": True,
            },
            "keys": {KEY: SECRET},
            "room": {"auto_create": False},
            "webhook": {"api_key": KEY, "urls": [f"{homeserver_url}/_matrix/livekit/sfu_webhook"]},
            "logging": {"level": "debug", "json": True},
        }
        self._config.write_text(json.dumps(config))
        with self._output.open("wb") as output:
            process = subprocess.Popen(
                [self.program, "--config", str(self._config)], stdout=output, stderr=output
            )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    async def _ask(self, method: str, video: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
        now = int(time.time())
        token = signed({"iss": KEY, "nbf": now - 10, "exp": now + 600, "video": dict(video)})
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"http://127.0.0.1:{self.port}/twirp/livekit.RoomService/{method}",
                json=dict(wanted),
                headers={"Authorization": f"Bearer {token}"},
            ) as answer,
        ):
            assert answer.status == 200, await answer.text()
            return dict(await answer.json())

    async def answers(self) -> None:
        """Returns when it does."""
        for _ in range(200):
            with contextlib.suppress(aiohttp.ClientError):
                await self._ask("ListRooms", {"roomList": True}, {})
                return
            await asyncio.sleep(0.1)
        raise AssertionError(self._output.read_text(errors="replace")[-4000:])

    async def participants(self) -> list[dict[str, Any]]:
        """Who is in any of its rooms, and whether their tracks are encrypted."""
        found: list[dict[str, Any]] = []
        for room in (await self._ask("ListRooms", {"roomList": True}, {})).get("rooms", []):
            video = {"roomAdmin": True, "room": room["name"]}
            listed = await self._ask("ListParticipants", video, {"room": room["name"]})
            found += [
                {
                    "identity": each["identity"],
                    "tracks": [
                        {"type": track.get("type"), "encryption": track.get("encryption", "NONE")}
                        for track in each.get("tracks", [])
                    ],
                }
                for each in listed.get("participants", [])
            ]
        return found


class CallPlay(Play):
    """A play in browsers: its scripts and packages lie beside the built page."""

    @override
    def prepare(self) -> Path:
        return CACHE / "call"


async def register(base_url: str, name: str) -> tuple[str, str]:
    """An account; its user id and password."""
    username, password = f"{name}-{secrets.token_hex(4)}", secrets.token_urlsafe(12)
    client = nio.AsyncClient(base_url, username, config=nio.AsyncClientConfig(encryption_enabled=False))
    try:
        accepted(await client.register(username, password))
        accepted(await client.logout())
    finally:
        await client.close()
    return client.user_id, password


def restarts(server: ConfiguredProcess) -> Answer:
    """Kills it and starts it again."""

    async def restart(_: Asked) -> Mapping[str, Any]:
        server.kill9()
        await asyncio.to_thread(server.start)
        return {}

    return restart


def atrium(folder: Path, dsn: str, livekit: RealLiveKit) -> ConfiguredProcess:
    """Our server, which tells clients an address that they reach it at."""
    server = ConfiguredProcess(
        folder / "data", dsn, calls={"livekit": {"url": livekit.url, "key": KEY, "secret": SECRET}}
    )
    config = json.loads(server.config.read_text())
    config["server"]["public_baseurl"] = server.base_url
    server.config.write_text(json.dumps(config))
    return server


async def perform(
    case: str, sites: Sequence[tuple[str, RealLiveKit]], options: Mapping[str, str], page: Path, chromium: str,
    scratch: Path, answers: Mapping[str, Answer],
) -> CallPlay:  # fmt: skip
    """Has Alice, of the first site, and Bob, of the last, call each other."""
    pictures = PICTURES / case
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)

    async def participants(_: Asked) -> Mapping[str, Any]:
        return {"participants": [each for _, livekit in sites for each in await livekit.participants()]}

    (hers, _), (his, _) = sites[0], sites[-1]
    (alice, alice_password), (bob, bob_password) = await register(hers, "alice"), await register(his, "bob")
    with serving(page, hers, "localhost") as page_url:
        play = CallPlay("call", hers, scratch, {"participants": participants, **answers})
        play.environment |= {
            "CHROMIUM": chromium,
            "PAGE_URL": page_url,
            "PICTURES": str(pictures),
            "ALICE": alice,
            "ALICE_PASSWORD": alice_password,
            "BOB": bob,
            "BOB_PASSWORD": bob_password,
            "BOBS_HOMESERVER_URL": his,
            **options,
        }
        await play.run(seconds=300)
    print("\n".join(play.seen))
    assert play.seen[-1] == "nobody is in the call"
    return play


@pytest.mark.parametrize(
    ("encrypted", "mode", "delegated", "end"),
    [
        pytest.param(True, "compatibility", True, "killed", id="encrypted-delegated-killed"),
        pytest.param(False, "compatibility", False, "killed", id="clear-killed"),
        pytest.param(True, "matrix_2_0", True, "cut-off", id="sticky-encrypted-delegated-cut-off"),
        pytest.param(False, "matrix_2_0", False, "killed", id="sticky-clear-killed"),
        pytest.param(True, "compatibility", True, "hangs-up", id="encrypted-hangs-up"),
        pytest.param(True, "compatibility", False, "restarted", id="encrypted-restarted"),
    ],
)
async def test_two_people_see_and_hear_each_other_until_one_is_gone(
    encrypted: bool,
    mode: str,
    delegated: bool,
    end: str,
    livekit_program: str,
    chromium: str,
    page: Path,
    database: str,
    tmp_path: Path,
) -> None:
    case = "-".join(["encrypted" if encrypted else "clear", mode, "delegated" if delegated else "own", end])
    options = {
        "ENCRYPTED": "yes" if encrypted else "no",
        "RTC_MODE": mode,
        "DELEGATED": "yes" if delegated else "no",
        "END": end,
    }
    livekit = RealLiveKit(livekit_program, tmp_path)
    with atrium(tmp_path, database, livekit) as server, livekit.running(server.base_url):
        await asyncio.to_thread(server.start)
        await livekit.answers()
        sites = [(server.base_url, livekit)]
        await perform(case, sites, options, page, chromium, tmp_path, {"restart": restarts(server)})


async def test_people_of_two_servers_call_each_other_over_a_livekit_server_of_each(
    livekit_program: str, chromium: str, page: Path, federation: Federation, tmp_path: Path
) -> None:
    """FED-40: each publishes at their own server's, and is let in at the other's by a token of their own."""
    options = {"ENCRYPTED": "yes", "RTC_MODE": "compatibility", "DELEGATED": "yes", "END": "killed"}
    sites: list[tuple[str, RealLiveKit]] = []
    async with AsyncExitStack() as stack:
        for name in ("one", "other"):
            folder = tmp_path / name
            folder.mkdir()
            livekit, port = RealLiveKit(livekit_program, folder), free_port()
            base_url = f"http://127.0.0.1:{port}"
            calls = {"livekit": {"url": livekit.url, "key": KEY, "secret": SECRET}}
            config = federation.config(calls=calls, server={"public_baseurl": base_url})
            first, *others = config.listeners
            config = config.with_listeners((first.model_copy(update={"port": port}), *others))
            await stack.enter_async_context(running(config))
            stack.enter_context(livekit.running(base_url))
            await livekit.answers()
            sites.append((base_url, livekit))
        await perform("two-servers", sites, options, page, chromium, tmp_path, {})
