"""Element's interface in Debian's Chromium: what a colleague does on the first morning.

The pictures of every step lie in `tests/browser/out/element/<play>` afterwards, for people to look at.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path

import nio
import pytest
from PIL import ExifTags, Image

from tests.browser.page_server import serving
from tests.interop.nio_person import accepted
from tests.interop.plays import CACHE, Play, install, need_node

pytestmark = pytest.mark.browser

SOURCES = Path(__file__).parent / "element"
PICTURES = Path(__file__).parent / "out" / "element"
BUILD_SECONDS = 300
SOMEBODY_ELSES = bool(os.environ.get("ATRIUM_TEST_URL") or os.environ.get("ATRIUM_TEST_COMMAND"))

# What Element asks for without knowing whether it is there.
REFUSED = {
    ("POST", "/v3/register", 401),  # which steps there are
    ("GET", "/v3/room_keys/version", 404),  # nobody has saved keys yet
    ("GET", "/v3/rooms/*/members", 403),  # of a room that one is invited to
    ("GET", "/v3/directory/room/*", 404),  # is the address free?
    ("GET", "/v3/voip/turnServer", 404),
    ("GET", "/unstable/org.matrix.msc2965/auth_issuer", 404),
    ("GET", "/unstable/org.matrix.msc2697.v2/dehydrated_device", 404),
    ("GET", "/unstable/org.matrix.msc3814.v1/dehydrated_device", 404),
}


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

    def refused(self) -> set[tuple[str, str, int]]:
        """What the pages asked for in vain: method, path without identifiers, status."""
        return {
            (
                each["method"],
                re.sub(r"[!$@%][^/]+", "*", each["path"]).removeprefix("/_matrix/client"),
                each["status"],
            )
            for each in self.exchanges()
            if each["status"] >= 400
        }


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


async def perform(
    name: str, base_url: str, chromium: str, element: Path, scratch: Path, **environment: str
) -> BrowserPlay:
    """Runs a play for Alice, whose name is still free, and Bob, who has an account; `environment` tells it more."""
    pictures = PICTURES / name
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    bob, password = await register(base_url, "bob")
    with serving(element, base_url, server_name=bob.partition(":")[2]) as page_url:
        play = BrowserPlay(name, base_url, scratch)
        play.environment |= {
            "CHROMIUM": chromium,
            "PAGE_URL": page_url,
            "PICTURES": str(pictures),
            "ALICE": f"alice-{secrets.token_hex(4)}",
            "ALICE_PASSWORD": secrets.token_urlsafe(12),
            "BOB": bob,
            "BOB_PASSWORD": password,
            **environment,
        }
        await play.run(seconds=180)
    if not SOMEBODY_ELSES:
        assert play.broken_contract() == []
        assert play.refused() <= REFUSED
    return play


async def test_a_person_registers_another_logs_in_and_they_chat_in_secret(
    base_url: str, chromium: str, element: Path, tmp_path: Path
) -> None:
    play = await perform("kitchen", base_url, chromium, element, tmp_path)
    assert play.seen[-1] == "logged out, logged in again, and all there to be read"


async def test_a_public_room_is_found_talked_in_and_left(
    base_url: str, chromium: str, element: Path, tmp_path: Path
) -> None:
    play = await perform("lobby", base_url, chromium, element, tmp_path)
    assert play.seen[-1] == "the room left"


PAGE = """<!doctype html><html><head><meta charset="utf-8"><title>Tea house</title>
<meta property="og:title" content="The tea house"><meta property="og:description" content="What there is to drink">
<meta property="og:image" content="cup.png"></head><body>Tea</body></html>"""


def pictures_in(folder: Path) -> tuple[Path, Path]:
    """A photograph as a telephone takes it, lying on its side with a note on how to hold it, and a face."""
    photo, face = folder / "photo.jpg", folder / "face.png"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned to the right by a quarter
    Image.linear_gradient("L").resize((1600, 2400)).convert("RGB").save(photo, exif=exif.tobytes())
    Image.radial_gradient("L").convert("RGB").save(face)
    return photo, face


async def test_pictures_films_files_and_voices_are_sent_and_shown(
    base_url: str, chromium: str, element: Path, tmp_path: Path
) -> None:
    """In the clear and encrypted; an avatar and the preview of a link, too."""
    photo, face = pictures_in(tmp_path)
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "tea.html").write_text(PAGE)
    Image.radial_gradient("L").resize((600, 400)).save(pages / "cup.png")
    with serving(pages, base_url, "pages") as address:
        about = {
            "LINK": f"{address}tea.html",
            "LINK_TITLE": "The tea house",
            "PHOTO": str(photo),
            "FACE": str(face),
        }
        play = await perform("gallery", base_url, chromium, element, tmp_path, **about)
    assert play.seen[-1] == "a voice encrypted"
