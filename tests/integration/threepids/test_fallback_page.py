"""The page on which a person proves an address whose client knows no such step (AUTH-07)."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.integration.threepids.test_email import confirm
from tests.support.identity import IdentityServer
from tests.support.mailbox import Mailbox, link_of
from tests.support.server import PASSWORD

STAGE = "m.login.email.identity"
PATH = "/auth/{}/fallback/web"


async def begin(server: IdentityServer) -> str:
    """A session in which somebody registers."""
    body = {"username": "alice", "password": PASSWORD}
    return str((await server.client.post("/register", json=body, expect=401))["session"])


async def send(server: IdentityServer, expect: int = 200, **form: str) -> str:
    """The page after a form."""
    answer = await server.client.exchange(
        "POST",
        PATH,
        STAGE,
        data=urlencode(form).encode(),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        expect=expect,
    )
    return answer.body.decode()


def hidden(text: str) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]+)">', text)
    return {name: unescape(value) for name, value in found}


async def test_auth_07_an_address_is_proved_on_a_page(mailing: IdentityServer, mailbox: Mailbox) -> None:
    session = await begin(mailing)
    first = await mailing.client.exchange("GET", PATH, STAGE, params={"session": session})
    assert 'type="email"' in first.body.decode()
    asked = await send(mailing, session=session, email="Alice@Example.COM")
    kept = hidden(asked)
    assert kept.keys() == {"session", "sid", "client_secret"}
    early = await send(mailing, **kept)
    assert "has not been followed yet" in early
    assert hidden(early) == kept
    await confirm(mailing, mailbox)
    assert "onAuthDone" in await send(mailing, **kept)
    body = {"username": "alice", "password": PASSWORD, "auth": {"session": session}}
    alice = mailing.user(await mailing.client.post("/register", json=body), PASSWORD)
    [address] = (await alice.get("/account/3pid"))["threepids"]
    assert address["address"] == "alice@example.com"


@pytest.mark.parametrize("address", ["", "nobody", "a@b@c", "x" * 600 + "@example.com", '"><script>@x'])
async def test_what_is_no_address_is_said_on_the_page(mailing: IdentityServer, address: str) -> None:
    text = await send(mailing, session=await begin(mailing), email=address)
    assert 'class="error"' in text
    assert 'type="email"' in text
    assert "<script>" not in text


async def test_an_address_in_use_is_said_on_the_page(mailing: IdentityServer, mailbox: Mailbox) -> None:
    kept = hidden(await send(mailing, session=await begin(mailing), email="alice@example.com"))
    await confirm(mailing, mailbox)
    await send(mailing, **kept)
    body = {"username": "alice", "password": PASSWORD, "auth": {"session": kept["session"]}}
    await mailing.client.post("/register", json=body)
    other = {"username": "other", "password": PASSWORD}
    session = (await mailing.client.post("/register", json=other, expect=401))["session"]
    assert 'class="error"' in await send(mailing, session=session, email="alice@example.com")


async def test_the_link_of_one_session_proves_nothing_in_another(
    mailing: IdentityServer, mailbox: Mailbox
) -> None:
    kept = hidden(await send(mailing, session=await begin(mailing), email="alice@example.com"))
    assert link_of(await mailbox.next())
    guessed: dict[str, Any] = {**kept, "client_secret": "another"}
    assert 'class="error"' in await send(mailing, **guessed)


async def test_a_server_that_has_no_such_step_says_so(server: IdentityServer) -> None:
    session = await begin(server)
    answer = await server.client.get(PATH, STAGE, params={"session": session}, expect=400)
    assert answer["errcode"] == "M_INVALID_PARAM"
    refused = await server.client.get(PATH, "m.login.msisdn", params={"session": session}, expect=400)
    assert refused["error"] == "There is no such kind of authentication here"
