"""Proving addresses by mail: CHECKLIST AUTH-06, AUTH-08, AUTH-25 to AUTH-28, AUTH-31, AUTH-32, CAP-02."""

from typing import Any

import aiohttp
import pytest

from homeserver.runtime.clock import FakeClock
from tests.integration.threepids.conftest import BASE, mail_section
from tests.support.identity import IdentityServer
from tests.support.mailbox import Mailbox, html_of, link_of, text_of
from tests.support.server import PASSWORD
from tests.support.user import User

REGISTER, ADD, RESET = (
    "/register/email/requestToken",
    "/account/3pid/email/requestToken",
    "/account/password/email/requestToken",
)
SECRET = "a.client_secret=1-2"
NEW = "another good password"
_ADDRESS = "alice@example.com"


async def ask(
    server: IdentityServer, path: str, address: str = _ADDRESS, *, expect: Any = 200, **more: Any
) -> str:
    body = {"client_secret": SECRET, "email": address, "send_attempt": 1, **more}
    reply = await server.client.post(path, json=body, expect=expect)
    assert reply.keys() <= {"sid", "errcode", "error", "retry_after_ms"}
    return str(reply.get("sid", ""))


async def load(server: IdentityServer, link: str, method: str = "GET") -> tuple[int, str]:
    """What a browser shows that follows the link, or presses the button of its page."""
    assert link.startswith(BASE)
    url, form = server.url + link.removeprefix(BASE), None
    if method == "POST":
        url, _, token = url.partition("?token=")
        form = {"token": token}
    async with aiohttp.ClientSession() as session, session.request(method, url, data=form) as answer:
        assert answer.content_type == "text/html"
        return answer.status, await answer.text()


async def confirm(server: IdentityServer, mailbox: Mailbox) -> None:
    status, text = await load(server, link_of(await mailbox.next()), "POST")
    assert (status, "confirmed" in text.lower()) == (200, True)


def creds(sid: str, secret: str = SECRET) -> dict[str, str]:
    return {"sid": sid, "client_secret": secret}


async def register(
    server: IdentityServer, name: str, sid: str, *, expect: Any = 200, secret: str = SECRET
) -> dict[str, Any]:
    body = {"username": name, "password": PASSWORD}
    question = await server.client.post("/register", json=body, expect=401)
    auth = {
        "type": "m.login.email.identity",
        "session": question["session"],
        "threepid_creds": creds(sid, secret),
    }
    return dict(await server.client.post("/register", json={**body, "auth": auth}, expect=expect))


async def registered(server: IdentityServer, mailbox: Mailbox, name: str, address: str = _ADDRESS) -> User:
    sid = await ask(server, REGISTER, address)
    await confirm(server, mailbox)
    return server.user(await register(server, name, sid), PASSWORD)


async def addresses(user: User) -> list[str]:
    return [found["address"] for found in (await user.get("/account/3pid"))["threepids"]]


# -------------------------------------------------------------------------------------------------------- registration


async def test_a_person_registers_with_an_address(mailing: IdentityServer, mailbox: Mailbox) -> None:
    """AUTH-06, AUTH-25: the mail arrives, the link is followed, the account is made, and the address is the account's."""
    sid = await ask(mailing, REGISTER, "Alice@Example.COM")
    letter = await mailbox.next()
    assert letter["To"] == _ADDRESS
    assert letter["From"] == "Atrium <noreply@matrix.test>"
    assert letter["Auto-Submitted"] == "auto-generated"
    refusal = await register(mailing, "alice", sid, expect=401)
    assert refusal["errcode"] == "M_UNAUTHORIZED"
    assert {"stages": ["m.login.email.identity"]} in refusal["flows"]
    status, text = await load(mailing, link_of(letter))
    assert (status, _ADDRESS in text, "<button>" in text) == (200, True, True)
    await register(mailing, "alice", sid, expect=401)  # loading the page, as scanners do, proves nothing
    assert (await load(mailing, link_of(letter), "POST"))[0] == 200
    alice = mailing.user(await register(mailing, "alice", sid))
    assert alice.user_id == "@alice:localhost"
    [found] = (await alice.get("/account/3pid"))["threepids"]
    assert (found["medium"], found["address"]) == ("email", _ADDRESS)
    assert 0 < found["validated_at"] <= found["added_at"]


async def test_letters_load_nothing_from_elsewhere_and_say_the_same_twice(
    mailing: IdentityServer, mailbox: Mailbox
) -> None:
    await ask(mailing, REGISTER)
    letter = await mailbox.next()
    html = html_of(letter)
    for loading in ("<img", "src=", "url(", "<link", "<script", "@import"):
        assert loading not in html
    assert html.count("http") == 2 * html.count(BASE + "/_matrix") / 2
    assert "localhost" in text_of(letter)


async def test_one_proof_makes_one_account(mailing: IdentityServer, mailbox: Mailbox) -> None:
    """AUTH-26: replayed, it is worth nothing, and the address is taken."""
    sid = await ask(mailing, REGISTER)
    letter = await mailbox.next()
    await load(mailing, link_of(letter), "POST")
    await register(mailing, "alice", sid)
    assert (await register(mailing, "bob", sid, expect=401))["errcode"] == "M_UNAUTHORIZED"
    assert (await load(mailing, link_of(letter), "POST"))[0] == 400
    assert (await load(mailing, link_of(letter)))[0] == 400
    await ask(
        mailing, REGISTER, "ALICE@example.com", client_secret="other", expect=(400, "M_THREEPID_IN_USE")
    )


async def test_of_two_who_prove_one_address_the_first_gets_it(
    mailing: IdentityServer, mailbox: Mailbox
) -> None:
    """AUTH-26."""
    sids = []
    for secret in ("one", "two"):
        sids.append(await ask(mailing, REGISTER, client_secret=secret))
        await confirm(mailing, mailbox)
    await register(mailing, "alice", sids[0], secret="one")
    await register(mailing, "bob", sids[1], secret="two", expect=(400, "M_THREEPID_IN_USE"))
    await mailing.client.get("/register/available", params={"username": "bob"})


async def test_a_wrong_secret_or_session_proves_nothing(mailing: IdentityServer, mailbox: Mailbox) -> None:
    """AUTH-27."""
    sid = await ask(mailing, REGISTER)
    await confirm(mailing, mailbox)
    await register(mailing, "alice", sid, secret="wrong", expect=401)
    await register(mailing, "alice", "wrong", expect=401)
    for token in ("", "ate_wrong", "x" * 5000):
        assert (await load(mailing, f"{BASE}/_matrix/static/client/email/confirm?token={token}"))[0] == 400
        assert (await load(mailing, f"{BASE}/_matrix/static/client/email/confirm?token={token}", "POST"))[
            0
        ] == 400


async def test_a_proof_for_one_thing_is_none_for_another(mailing: IdentityServer, mailbox: Mailbox) -> None:
    sid = await ask(mailing, ADD)
    await confirm(mailing, mailbox)
    await register(mailing, "alice", sid, expect=401)


async def test_links_and_proofs_expire(start: Any, mailbox: Mailbox) -> None:
    clock = FakeClock()
    server = await start(
        clock=clock,
        server={"name": "localhost", "public_baseurl": BASE},
        mail=mail_section(mailbox, link_lifetime="1h"),
        registration={"flows": [["email"]]},
    )
    sid = await ask(server, REGISTER)
    link = link_of(await mailbox.next())
    await clock.advance(3600)
    assert (await load(server, link, "POST"))[0] == 400
    sid = await ask(server, REGISTER)  # the old attempt is over, so the same number counts again
    await confirm(server, mailbox)
    await clock.advance(3600)
    await register(server, "alice", sid, expect=401)
    await server.parts.housekeeping.clean()
    assert await server.parts.threepids.validation.look(link.partition("token=")[2]) is None


# --------------------------------------------------------------------------------------------------------- asking


async def test_a_mail_is_sent_only_when_the_attempt_is_newer(
    mailing: IdentityServer, mailbox: Mailbox
) -> None:
    """AUTH-25."""
    sid = await ask(mailing, REGISTER, send_attempt=3)
    first = link_of(await mailbox.next())
    for attempt in (3, 2, 0):
        assert await ask(mailing, REGISTER, send_attempt=attempt) == sid
    assert await ask(mailing, REGISTER, send_attempt=4) == sid
    second = link_of(await mailbox.next())
    assert mailbox.empty()
    assert first != second
    assert await ask(mailing, REGISTER, client_secret="another") != sid
    assert link_of(await mailbox.next()) not in (first, second)
    assert (await load(mailing, first, "POST"))[0] == 200  # whichever mail is opened
    assert (await load(mailing, second))[0] == 200


@pytest.mark.parametrize(
    ("wrong", "errcode"),
    [
        ({"email": "not an address"}, "M_INVALID_PARAM"),
        ({"email": "a@example.com\r\nBcc: b@example.com"}, "M_INVALID_PARAM"),
        ({"client_secret": ""}, "M_INVALID_PARAM"),
        ({"client_secret": "ä"}, "M_INVALID_PARAM"),
        ({"client_secret": "x" * 256}, "M_INVALID_PARAM"),
        ({"send_attempt": -1}, "M_INVALID_PARAM"),
        ({"send_attempt": 2**64}, None),
        ({"send_attempt": "1"}, "M_BAD_JSON"),
        ({"next_link": "javascript:alert(1)"}, "M_INVALID_PARAM"),
        ({"next_link": "https://["}, "M_INVALID_PARAM"),
        ({"next_link": "https://a.example/" + "x" * 3000}, "M_INVALID_PARAM"),
    ],
)
async def test_what_cannot_be_asked_for(
    mailing: IdentityServer, mailbox: Mailbox, wrong: dict[str, Any], errcode: str | None
) -> None:
    """AUTH-26."""
    for path in (REGISTER, ADD, RESET):
        await ask(
            mailing,
            path,
            address=wrong.pop("email", _ADDRESS),
            **wrong,
            expect=(400, errcode) if errcode else 400,
        )
        if not wrong:
            break
    assert mailbox.empty()


async def test_a_page_leads_on_only_to_where_the_administrator_said(start: Any, mailbox: Mailbox) -> None:
    server = await start(
        server={"name": "localhost", "public_baseurl": BASE},
        mail=mail_section(mailbox, next_link_hosts=["chat.example.com"]),
        registration={"flows": [["email"]]},
    )
    for host, shown in (
        ("chat.example.com", True),
        ("evil.example.com", False),
        ("chat.example.com.evil.example", False),
    ):
        await ask(server, REGISTER, client_secret=host, next_link=f"https://{host}/#/x?a=1&b='\"<")
        _, text = await load(server, link_of(await mailbox.next()), "POST")
        assert (f"https://{host}" in text) is shown
        assert "'\"<" not in text


async def test_addresses_of_other_domains_may_be_refused(start: Any, mailbox: Mailbox) -> None:
    """AUTH-26."""
    server = await start(
        server={"name": "localhost", "public_baseurl": BASE},
        mail=mail_section(mailbox),
        registration={"flows": [["email"]], "email_domains": ["Example.com"]},
    )
    await ask(server, REGISTER, "a@example.org", expect=(403, "M_THREEPID_DENIED"))
    await ask(server, REGISTER, "a@sub.example.com", expect=(403, "M_THREEPID_DENIED"))
    await ask(server, REGISTER, "a@EXAMPLE.com")
    assert (await mailbox.next())["To"] == "a@example.com"


async def test_nobody_can_have_mails_sent_without_end(start: Any, mailbox: Mailbox) -> None:
    """API-08: neither to one address nor from one place."""
    server = await start(
        server={"name": "localhost", "public_baseurl": BASE},
        mail=mail_section(mailbox),
        registration={"flows": [["email"]]},
        rate_limits={"enabled": True, "mail": {"burst": 3, "per_second": 0.001}},
    )
    for attempt in (1, 2, 3):
        await ask(server, REGISTER, send_attempt=attempt)
        await mailbox.next()
    await ask(server, REGISTER, send_attempt=4, expect=(429, "M_LIMIT_EXCEEDED"))
    await ask(server, REGISTER, "bob@example.com", expect=(429, "M_LIMIT_EXCEEDED"))
    await ask(server, REGISTER, send_attempt=3)  # a retry sends nothing, and costs nothing
    assert mailbox.empty()


async def test_asking_whether_the_link_was_followed_is_not_limited(start: Any, mailbox: Mailbox) -> None:
    """AUTH-04: clients ask every two seconds."""
    server = await start(
        server={"name": "localhost", "public_baseurl": BASE},
        mail=mail_section(mailbox),
        registration={"flows": [["email"]]},
        rate_limits={"enabled": True, "ui_auth": {"burst": 6, "per_second": 0.001}},
    )
    sid = await ask(server, REGISTER)
    body = {"username": "alice", "password": PASSWORD}
    question = await server.client.post("/register", json=body, expect=401)
    auth = {"type": "m.login.email.identity", "session": question["session"], "threepid_creds": creds(sid)}
    for _ in range(12):
        await server.client.post("/register", json={**body, "auth": auth}, expect=401)
    await confirm(server, mailbox)
    await server.client.post("/register", json={**body, "auth": auth})


async def test_without_mail_nothing_is_promised(server: IdentityServer) -> None:
    """AUTH-26, CAP-02."""
    for path in (REGISTER, ADD, RESET):
        await ask(server, path, expect=(400, "M_THREEPID_MEDIUM_NOT_SUPPORTED"))
    alice = await server.register("alice")
    assert (await alice.get("/capabilities"))["capabilities"]["m.3pid_changes"] == {"enabled": False}
    assert await alice.get("/account/3pid") == {"threepids": []}


async def test_there_are_no_text_messages(mailing: IdentityServer) -> None:
    """AUTH-26."""
    body = {"client_secret": SECRET, "country": "GB", "phone_number": "07700900001", "send_attempt": 1}
    for path in ("/register", "/account/3pid", "/account/password"):
        refusal = (400, "M_THREEPID_MEDIUM_NOT_SUPPORTED")
        await mailing.client.post(f"{path}/msisdn/requestToken", json=body, expect=refusal)


# ------------------------------------------------------------------------------------------------- one's own addresses


async def test_an_address_is_added_logged_in_with_and_taken_away(
    mailing: IdentityServer, mailbox: Mailbox
) -> None:
    """AUTH-08, AUTH-31, CAP-02."""
    alice = await mailing.register("alice")
    assert (await alice.get("/capabilities"))["capabilities"]["m.3pid_changes"] == {"enabled": True}
    sid = await ask(mailing, ADD)
    question = await alice.post("/account/3pid/add", json=creds(sid), expect=401)
    assert question["flows"] == [{"stages": ["m.login.password"]}]
    auth = {"type": "m.login.password", "user": alice.user_id, "password": PASSWORD}
    body = {**creds(sid), "auth": auth}
    await alice.post("/account/3pid/add", json=body, expect=(400, "M_THREEPID_AUTH_FAILED"))
    await confirm(mailing, mailbox)
    assert await alice.post("/account/3pid/add", json=body) == {}
    await alice.post("/account/3pid/add", json=body, expect=(400, "M_THREEPID_AUTH_FAILED"))
    assert await addresses(alice) == [_ADDRESS]
    for fields in (
        {"identifier": {"type": "m.id.thirdparty", "medium": "email", "address": "ALICE@Example.com"}},
        {"medium": "email", "address": _ADDRESS},
    ):
        login = {"type": "m.login.password", "password": PASSWORD, **fields}
        assert (await mailing.client.post("/login", json=login))["user_id"] == alice.user_id
        wrong = {**login, "password": "wrong"}
        await mailing.client.post("/login", json=wrong, expect=(403, "M_FORBIDDEN"))
    gone = {"medium": "email", "address": "Alice@Example.com"}
    assert await alice.post("/account/3pid/delete", json=gone) == {"id_server_unbind_result": "no-support"}
    assert await addresses(alice) == []
    await mailing.client.post("/login", json=login, expect=(403, "M_FORBIDDEN"))


async def test_an_address_of_somebody_else_is_not_added_or_taken_away(
    mailing: IdentityServer, mailbox: Mailbox
) -> None:
    """AUTH-31."""
    bob = await mailing.register("bob")
    sid = await ask(mailing, ADD, client_secret="bobs")
    await confirm(mailing, mailbox)
    alice = await registered(mailing, mailbox, "alice")
    await ask(mailing, ADD, client_secret="x", expect=(400, "M_THREEPID_IN_USE"))
    auth = {"type": "m.login.password", "user": bob.user_id, "password": PASSWORD}
    body = {**creds(sid, "bobs"), "auth": auth}
    await bob.post("/account/3pid/add", json=body, expect=(400, "M_THREEPID_IN_USE"))
    await bob.post("/account/3pid/delete", json={"medium": "email", "address": _ADDRESS})
    assert await addresses(alice) == [_ADDRESS]
    assert await addresses(bob) == []


async def test_identity_servers_are_refused_and_nothing_is_bound(mailing: IdentityServer) -> None:
    """AUTH-31."""
    alice = await mailing.register("alice")
    server = {"id_server": "id.example.com", "id_access_token": "x", **creds("1")}
    await alice.post("/account/3pid/bind", json=server, expect=(400, "M_SERVER_NOT_TRUSTED"))
    deprecated = {"three_pid_creds": server}
    await alice.post("/account/3pid", json=deprecated, expect=(400, "M_SERVER_NOT_TRUSTED"))
    for more in ({}, {"id_server": "id.example.com"}):
        body = {"medium": "email", "address": _ADDRESS, **more}
        answer = await alice.post("/account/3pid/unbind", json=body)
        assert answer == {"id_server_unbind_result": "no-support"}


async def test_the_address_of_an_ended_account_is_free(mailing: IdentityServer, mailbox: Mailbox) -> None:
    """AUTH-29."""
    alice = await registered(mailing, mailbox, "alice")
    auth = {"type": "m.login.password", "user": alice.user_id, "password": PASSWORD}
    await alice.post("/account/deactivate", json={"auth": auth})
    await ask(mailing, RESET, expect=(400, "M_THREEPID_NOT_FOUND"))
    again = await registered(mailing, mailbox, "alice.again")
    assert await addresses(again) == [_ADDRESS]


# ------------------------------------------------------------------------------------------------------ a new password


async def reset(server: IdentityServer, sid: str, *, expect: Any = 200, **more: Any) -> Any:
    auth = {"type": "m.login.email.identity", "threepid_creds": creds(sid)}
    body = {"new_password": NEW, "auth": auth, **more}
    return await server.client.post("/account/password", json=body, expect=expect)


async def test_who_has_forgotten_their_password_sets_a_new_one(
    mailing: IdentityServer, mailbox: Mailbox
) -> None:
    """AUTH-26, AUTH-28: the other devices end."""
    alice = await registered(mailing, mailbox, "alice")
    await ask(mailing, RESET, "nobody@example.com", expect=(400, "M_THREEPID_NOT_FOUND"))
    sid = await ask(mailing, RESET)
    question = await mailing.client.post("/account/password", json={"new_password": NEW}, expect=401)
    assert question["flows"] == [{"stages": ["m.login.email.identity"]}]
    assert (await reset(mailing, sid, expect=401))["errcode"] == "M_UNAUTHORIZED"
    letter = await mailbox.next()
    assert "new password" in letter["Subject"]
    assert (await load(mailing, link_of(letter), "POST"))[0] == 200
    await reset(mailing, sid, new_password="x", expect=(400, "M_WEAK_PASSWORD"))
    await reset(mailing, sid)
    await alice.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))
    await mailing.login(alice.user_id, PASSWORD, expect=(403, "M_FORBIDDEN"))
    await mailing.login(alice.user_id, NEW)
    await reset(mailing, sid, new_password="once more, then", expect=401)
    await mailing.login(alice.user_id, NEW)


async def test_devices_can_be_kept_when_the_password_is_reset(
    mailing: IdentityServer, mailbox: Mailbox
) -> None:
    """AUTH-28."""
    alice = await registered(mailing, mailbox, "alice")
    sid = await ask(mailing, RESET)
    await confirm(mailing, mailbox)
    await reset(mailing, sid, logout_devices=False)
    await alice.get("/account/whoami")


async def test_nobody_learns_which_addresses_have_accounts(start: Any, mailbox: Mailbox) -> None:
    """AUTH-26, as an administrator may want it: the answers are the same, the owner is told."""
    server = await start(
        server={"name": "localhost", "public_baseurl": BASE},
        mail=mail_section(mailbox, hide_addresses=True),
        registration={"flows": [["email"]]},
    )
    await registered(server, mailbox, "alice")
    assert await ask(server, RESET, "nobody@example.com")
    sid = await ask(server, REGISTER, client_secret="x")
    letter = await mailbox.next()
    assert letter["To"] == _ADDRESS
    assert "http" not in text_of(letter)
    assert "have an account" in letter["Subject"]
    await register(server, "other", sid, secret="x", expect=401)
    assert mailbox.empty()
    sid = await ask(server, RESET)
    await confirm(server, mailbox)
    await reset(server, sid)
