"""What the server shows in a browser by itself, on a desk and on a phone: the page at `/`, Element and Cinny under `/web/`,
fallback pages. The pictures lie in `tests/browser/out/handed_out` and `cinny` afterwards.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path

import aiohttp
import nio
import pytest
from typing_extensions import override

from tests.browser.test_element import PICTURES, REFUSED, BrowserPlay, chromium, element, register
from tests.interop.nio_person import accepted
from tests.support.process import HomeserverProcess

__all__ = ["chromium", "element"]

pytestmark = pytest.mark.browser

CONFIGURATION = """
server: {{name: localhost, public_baseurl: "http://localhost:{port}", data_dir: "{data}"}}
listeners: [{{address: 127.0.0.1, port: {port}, resources: [client, media, health]}}]
registration: {{enabled: true, flows: [[dummy]], open_without_checks: true}}
rate_limits: {{enabled: false}}
branding: {{name: Example Ltd}}
web_client: {{path: "{client}", kind: {kind}}}
"""


class ServerWithClient(HomeserverProcess):
    """One that hands out a web client."""

    def __init__(self, data: Path, client: Path, kind: str) -> None:
        super().__init__(data)
        self.configuration = data.parent / f"{data.name}.yaml"
        self.configuration.write_text(
            CONFIGURATION.format(port=self.port, data=data, client=client, kind=kind)
        )

    @override
    def command(self) -> list[str]:
        return [*super().command()[:1], "serve", "--config", str(self.configuration)]


async def uia_session(url: str, user_id: str, password: str) -> str:
    """One that waits for a password, as an app would have it confirmed by the fallback page."""
    identifier = {"type": "m.id.user", "user": user_id}
    async with aiohttp.ClientSession(url) as session:
        body = {"type": "m.login.password", "identifier": identifier, "password": password}
        async with session.post("/_matrix/client/v3/login", json=body) as answer:
            told = await answer.json()
        async with session.post(
            "/_matrix/client/v3/delete_devices",
            json={"devices": [told["device_id"]]},
            headers={"Authorization": f"Bearer {told['access_token']}"},
        ) as answer:
            assert answer.status == 401
            return str((await answer.json())["session"])


async def perform(name: str, server: ServerWithClient, scratch: Path, **more: str) -> BrowserPlay:
    """Runs a play for Alice, whose name is still free, and whoever else is named."""
    pictures = PICTURES.parent / name
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    play = BrowserPlay(name, server.base_url, scratch)
    play.environment |= {
        "PAGE_URL": f"http://localhost:{server.port}/web/",
        "PICTURES": str(pictures),
        "ALICE": f"alice-{secrets.token_hex(4)}",
        "ALICE_PASSWORD": secrets.token_urlsafe(12),
        **more,
    }
    await play.run(seconds=180)
    assert play.broken_contract() == []
    return play


async def test_the_server_hands_out_element_and_its_own_pages(
    element: Path, chromium: str, tmp_path: Path
) -> None:
    with ServerWithClient(tmp_path / "data", element, "element") as server:
        server.start()
        bob, password = await register(server.base_url, "bob")
        sessions = {name: await uia_session(server.base_url, bob, password) for name in ("desk", "phone")}
        people = {"BOB": bob, "BOB_PASSWORD": password, "CONFIRM": json.dumps(sessions)}
        play = await perform("handed_out", server, tmp_path, CHROMIUM=chromium, **people)
    assert play.refused() <= REFUSED | {("POST", "/v3/login", 403)}
    assert play.seen[-1] == "logged in on a phone"


async def test_the_server_hands_out_cinny(element: Path, chromium: str, tmp_path: Path) -> None:
    """Its build is not made here: `npm ci` and `npx vite build` with `base: '/web/'` in build.config.ts."""
    del element  # what drives the browser lies beside it
    built = os.environ.get("ATRIUM_TEST_CINNY")
    if not built:
        pytest.skip("ATRIUM_TEST_CINNY names no folder with a build of Cinny (its dist)")
    with ServerWithClient(tmp_path / "data", Path(built), "cinny") as server:
        server.start()
        bob, password = await register(server.base_url, "bob")
        client = nio.AsyncClient(server.base_url, bob)
        accepted(await client.login(password))
        room = accepted(await client.room_create(alias="lobby", preset=nio.RoomPreset.public_chat))
        await client.close()
        people = {"BOB": bob, "BOB_PASSWORD": password, "ROOM": f"#lobby:{bob.partition(':')[2]}"}
        assert room.room_id
        play = await perform("cinny", server, tmp_path, CHROMIUM=chromium, **people)
    assert play.seen[-1] == "logged in and written on a phone"
