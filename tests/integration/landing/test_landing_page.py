"""The page at / and the logo on the server's pages."""

import re
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import StartServer
from tests.support.server import Server

SVG = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


async def asked(server: Server, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    async with aiohttp.ClientSession() as session, session.get(server.url + path, headers=headers) as answer:
        return answer.status, await answer.text(), dict(answer.headers)


async def test_the_page_says_how_to_connect(start_server: StartServer) -> None:
    server = await start_server(
        server={
            "name": "localhost",
            "public_baseurl": "https://matrix.example.com",
            "admin_contact": "mailto:help@example.com",
            "support_page": "https://example.com/help",
        },
        branding={"name": "Näh & <Co>", "links": {"Imprint": "https://example.com/imprint"}},
    )
    status, text, headers = await asked(server, "/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "Näh &amp; &lt;Co&gt;" in text
    assert "<Co>" not in text
    for link in (
        "https://mobile.element.io/element/?account_provider=localhost",
        "https://app.cinny.in/login/localhost/",
        "https://fluffychat.im/",
        "https://mobile.element.io/?hs_url=https%3A%2F%2Fmatrix.example.com",
        "mailto:help@example.com",
        "https://example.com/help",
        "https://example.com/imprint",
    ):
        assert f'href="{link}"' in text
    assert re.search(r'<code class="server">localhost</code>', text)
    assert '<svg xmlns="http://www.w3.org/2000/svg"' in text, "the code for the phone"
    assert "/web/" not in text, "there is no web client here"


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "en"),
        ("de-CH,de;q=0.9,en;q=0.8", "de"),
        ("fr,en;q=0.5,de;q=0.9", "de"),
        ("fr", "en"),
        ("de;q=0", "en"),
        ("de;q=x, ;;q=, ,", "en"),
        ("*" * 5000, "en"),
    ],
)
async def test_the_page_speaks_the_languages_it_knows(server: Server, accept: str, language: str) -> None:
    _, text, _ = await asked(server, "/", **{"Accept-Language": accept})
    assert f'<html lang="{language}">' in text


async def test_the_page_may_load_nothing_from_elsewhere(server: Server) -> None:
    _, text, headers = await asked(server, "/")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert text.count("<script>") == 1
    assert not re.search(r'src="(?!/_atrium/)', text)


@pytest.mark.parametrize(
    ("registration", "words"),
    [
        ({"enabled": False}, "made by the administrators"),
        ({"enabled": True, "flows": [["token"]]}, "registration token"),
        ({"enabled": True, "flows": [["dummy"]], "open_without_checks": True}, "make an account in the app."),
    ],
)
async def test_the_page_says_how_to_come_by_an_account(
    start_server: StartServer, registration: dict[str, object], words: str
) -> None:
    _, text, _ = await asked(await start_server(registration=registration), "/")
    assert words in text


async def test_a_logo_is_shown_and_can_run_nothing(start_server: StartServer, tmp_path: Path) -> None:
    logo = tmp_path / "logo.svg"
    logo.write_text(SVG)
    server = await start_server(branding={"logo": str(logo), "colour": "#123456"})
    for path in ("/", "/_matrix/static/client/login/"):
        _, text, headers = await asked(server, path)
        assert 'src="/_atrium/branding/logo"' in text, path
        assert "--brand:#123456" in text, path
        assert "img-src 'self'" in headers["Content-Security-Policy"]
    status, text, headers = await asked(server, "/_atrium/branding/logo")
    assert (status, text) == (200, SVG)
    assert headers["Content-Type"] == "image/svg+xml"
    assert "sandbox" in headers["Content-Security-Policy"]


async def test_without_a_logo_or_a_page_there_is_none(start_server: StartServer) -> None:
    server = await start_server(branding={"landing_page": False})
    assert (await asked(server, "/"))[0] == 404
    assert (await asked(server, "/_atrium/branding/logo"))[0] == 404
