"""Element's interface in Debian's Chromium: what a colleague does on the first morning.

The pictures of every step lie in `tests/browser/out/element` afterwards, for people to look at.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path

import nio
import pytest

from tests.browser.page_server import serving
from tests.interop.nio_person import accepted
from tests.interop.plays import CACHE, Play, install, need_node

pytestmark = pytest.mark.browser

SOURCES = Path(__file__).parent / "element"
PICTURES = Path(__file__).parent / "out" / "element"
BUILD_SECONDS = 300


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("Chromium is not installed")
    return found


@pytest.fixture(scope="module")
def element() -> Path:
    """The folder with Element's page, built once from the npm packages."""
    need_node()
    folder = install(SOURCES, CACHE / "element")
    page, made_from = folder / "page", folder / "page" / ".made-from"
    sources = "".join(
        (SOURCES / name).read_text() for name in ("build.mjs", "shell.tsx", "sw.js", "package-lock.json")
    )
    if not made_from.exists() or made_from.read_text() != sources:
        command = ["node", "build.mjs", str(page)]
        environment = {**os.environ, "CLIENT_DEPS": str(folder)}
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"building Element failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        made_from.write_text(sources)
    return page


class BrowserPlay(Play):
    """A play in a browser: its scripts and packages are those of the built client."""

    def prepare(self) -> Path:
        return CACHE / "element"


async def register(base_url: str, name: str) -> tuple[str, str]:
    """An account made beforehand; its user id and password."""
    username, password = f"{name}-{secrets.token_hex(4)}", secrets.token_urlsafe(12)
    client = nio.AsyncClient(base_url, username, config=nio.AsyncClientConfig(encryption_enabled=False))
    try:
        accepted(await client.register(username, password))
        accepted(await client.logout())
    finally:
        await client.close()
    return client.user_id, password


async def test_a_person_registers_another_logs_in_and_they_chat(
    base_url: str, chromium: str, element: Path, tmp_path: Path
) -> None:
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    bob, password = await register(base_url, "bob")
    with serving(element, base_url, server_name=bob.partition(":")[2]) as page_url:
        play = BrowserPlay("element", base_url, tmp_path)
        play.environment |= {
            "CHROMIUM": chromium,
            "PAGE_URL": page_url,
            "PICTURES": str(PICTURES),
            "ALICE": f"alice-{secrets.token_hex(4)}",
            "ALICE_PASSWORD": secrets.token_urlsafe(12),
            "BOB": bob,
            "BOB_PASSWORD": password,
        }
        await play.run(seconds=180)
    assert play.seen[-1] == "the page loaded anew, and the chat going on"
