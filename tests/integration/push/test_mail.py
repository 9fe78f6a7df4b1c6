"""Mails about what is unread: PUSH-16."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from email.message import EmailMessage
from typing import Any

import aiohttp
import pytest

from homeserver.push.mail import store
from tests.support import mailbox as support_mailbox
from tests.support.background import log_is_read
from tests.support.mailbox import Mailbox, html_of, text_of
from tests.support.server import Server
from tests.support.user import User
from tests.support.waiting import until

SET = "/pushers/set"
BASE = "https://matrix.test"
StartServer = Callable[..., Awaitable[Server]]


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with support_mailbox.running() as running:
        yield running


@pytest.fixture
def mailing(start_server: StartServer, mailbox: Mailbox) -> Callable[..., Awaitable[Server]]:
    async def start(**options: Any) -> Server:
        section = {
            "host": "127.0.0.1",
            "port": mailbox.port,
            "security": "none",
            "sender": "Atrium <noreply@matrix.test>",
            "notification_delay": 1,
            **options,
        }
        return await start_server(server={"public_baseurl": BASE}, mail=section)

    return start


def pusher(address: str, **fields: Any) -> dict[str, Any]:
    """As Element sets one."""
    return {
        "kind": "email",
        "app_id": "m.email",
        "pushkey": address,
        "app_display_name": "Email Notifications",
        "device_display_name": address,
        "lang": "en",
        "data": {"brand": "Acme Chat"},
        "append": True,
        **fields,
    }


async def sql(server: Server, statement: Any, **values: Any) -> list[Any]:
    assert server.app is not None
    async with server.app.core.db.transaction() as tx:
        return await tx.all(statement, **values)


async def reader(server: Server, name: str, address: str = "", **fields: Any) -> User:
    """Somebody with an address of their own and a pusher for it, who is not here."""
    user = await server.register(name)
    address = address or f"{user.localpart}@example.com"
    await sql(
        server,
        """
        INSERT INTO threepids (medium, address, user_nid, validated_ms, added_ms)
        SELECT 'email', %(address)s, user_nid, 1, 1 FROM users WHERE user_id = %(user)s RETURNING 1
        """,
        address=address,
        user=user.user_id,
    )
    await user.post(SET, json=pusher(address, **fields))
    return user


async def looks(server: Server, holds: Callable[[], Awaitable[object]]) -> None:
    """Jobs that are due are begun at once until something holds."""
    assert server.app is not None
    jobs = server.app.core.jobs

    async def look() -> object:
        jobs.wake()
        return await holds()

    await until(look, within=60, every=0.1)


async def next_letter(server: Server, mailbox: Mailbox) -> EmailMessage:
    async def arrived() -> bool:
        return not mailbox.empty()

    await looks(server, arrived)
    return await mailbox.next()


async def nothing_is_planned(server: Server) -> None:
    """Until all that was to be looked at was."""

    async def idle() -> bool:
        # What was read before anybody looked at it is never planned.
        return await log_is_read(server) and not await sql(
            server, "SELECT FROM mail_digests WHERE due_at IS NOT NULL"
        )

    await looks(server, idle)


async def named_room(owner: User, name: str, *others: User) -> str:
    room = await owner.create_room(preset="public_chat", name=name)
    for other in others:
        await other.join(room)
    return room


async def test_only_an_address_of_ones_own_is_taken(
    server: Server, mailing: Callable[..., Awaitable[Server]]
) -> None:
    """PUSH-16: clear errors; listed without a gateway; spelled differently it is the same."""
    elsewhere = await server.register("alice")
    refused = await elsewhere.post(SET, json=pusher("alice@example.com"), expect=400)
    assert refused["errcode"] == "M_INVALID_PARAM"
    assert "mail" in refused["error"]
    here = await mailing()
    alice, bob = await reader(here, "alice", "alice@example.com"), await here.register("bob")
    for user, fields, errcode in (
        (bob, {"pushkey": "alice@example.com"}, "M_THREEPID_NOT_FOUND"),
        (alice, {"pushkey": "no address"}, "M_INVALID_PARAM"),
        (alice, {"pushkey": "alice@example.com\r\nBcc: eve@example.com"}, "M_INVALID_PARAM"),
        (alice, {"app_id": "org.example"}, "M_INVALID_PARAM"),
        (alice, {"kind": "http", "data": {"url": f"{BASE}/_matrix/push/v1/notify"}}, "M_INVALID_PARAM"),
    ):
        reply = await user.post(SET, json=pusher("alice@example.com", **{"lang": "de", **fields}), expect=400)
        assert reply["errcode"] == errcode, fields
    await alice.post(SET, json=pusher("Alice@Example.com", lang="de"))
    (found,) = (await alice.get("/pushers"))["pushers"]
    assert (found["kind"], found["pushkey"], found["lang"]) == ("email", "alice@example.com", "de")
    assert found["data"] == {"brand": "Acme Chat"}
    await alice.logout()
    again = await here.login(alice.user_id)
    assert len((await again.get("/pushers"))["pushers"]) == 1, "it is the account's, not the session's"
    await again.post(SET, json={"kind": None, "app_id": "m.email", "pushkey": "ALICE@example.com"})
    assert (await again.get("/pushers"))["pushers"] == []


async def test_one_letter_for_all_rooms(mailing: Callable[..., Awaitable[Server]], mailbox: Mailbox) -> None:
    """PUSH-16: what notifies and is unread: no more, no less; plain text in both forms; the client's brand."""
    server = await mailing(client_url="https://chat.example.com")
    alice, bob = await server.register("alice"), await reader(server, "bob")
    await alice.put(f"/profile/{alice.user_id}/displayname", json={"displayname": "Alice <b>\r\nBcc: x"})
    lobby, secret = await named_room(alice, "Lobby & <i>bar</i>", bob), await named_room(alice, "Secret", bob)
    quiet = await named_room(alice, "Quiet", bob)
    await bob.put(f"/pushrules/global/room/{quiet}", json={"actions": []})
    await alice.send(quiet, "nobody hears this")
    gone = await alice.send(lobby, "said by mistake")
    await alice.redact(lobby, gone)
    html = {"format": "org.matrix.custom.html", "formatted_body": "<img src=https://evil.example/x>"}
    event_id = await alice.send(lobby, "1 < 2 & <script>alert(1)</script>\nsecond line", **html)
    await alice.send_event(
        lobby, "m.room.message", {"msgtype": "m.image", "body": "x.png", "url": "mxc://a/b"}
    )
    sealed = {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x", "session_id": "y"}
    await alice.send_event(secret, "m.room.encrypted", sealed)
    await alice.invite(await alice.create_room(name="Party"), bob)
    letter = await next_letter(server, mailbox)
    assert letter["To"] == f"{bob.localpart}@example.com"
    assert letter["Bcc"] is None
    assert letter["Subject"] == "[Acme Chat] New messages in 3 rooms"
    text, shown = text_of(letter), html_of(letter)
    assert "1 < 2 & <script>alert(1)</script>\n" in text.replace("\r\n", "\n")
    assert "1 &lt; 2 &amp; &lt;script&gt;alert(1)&lt;/script&gt;<br>second line" in shown
    for form in (text, shown):
        assert "sent a picture" in form
        assert "sent an encrypted message" in form
        assert "invites you to this room" in form
        assert "Party" in form
        for unwanted in ("Quiet", "nobody hears", "mistake", "evil.example", "<img", "ciphertext"):
            assert unwanted not in form
    assert "Lobby &amp; &lt;i&gt;bar&lt;/i&gt;" in shown
    assert f"https://chat.example.com/#/room/{lobby.replace('!', '%21').replace(':', '%3A')}/" in text
    assert event_id.replace("$", "%24") in text
    await nothing_is_planned(server)
    assert mailbox.empty()


async def test_what_was_read_or_is_being_read_is_not_told(
    mailing: Callable[..., Awaitable[Server]], mailbox: Mailbox
) -> None:
    """PUSH-16: nothing of before the pusher, nothing that was read meanwhile, nothing while a client is in use."""
    server = await mailing(notification_pause=3600)
    alice, bob = await server.register("alice"), await reader(server, "bob")
    room = await named_room(alice, "Lobby", bob)
    await bob.post(SET, json={"kind": None, "app_id": "m.email", "pushkey": f"{bob.localpart}@example.com"})
    await alice.send(room, "before")
    await bob.post(SET, json=pusher(f"{bob.localpart}@example.com"))
    last = await alice.send(room, "read at once")
    await bob.post(f"/rooms/{room}/receipt/m.read/{last}", json={})
    await nothing_is_planned(server)
    assert mailbox.empty()
    await bob.sync(set_presence="online")
    await alice.send(room, "seen")
    assert server.app is not None
    mails = server.app.features.pushers.mails

    async def postponed() -> bool:
        return mails.online > 0

    await looks(server, postponed)
    assert mailbox.empty()
    await bob.put(f"/presence/{bob.user_id}/status", json={"presence": "offline"})
    letter = await next_letter(server, mailbox)
    assert "seen" in text_of(letter)
    assert "read at once" not in text_of(letter)
    assert (
        letter["Subject"].startswith("[Acme Chat] New messages from") or "wrote to you" in letter["Subject"]
    )


async def test_a_pusher_that_is_set_anew_is_told_though_a_letter_was_planned_for_the_one_before(
    mailing: Callable[..., Awaitable[Server]],
) -> None:
    """PUSH-16: the letter went with the pusher it was planned for."""
    server = await mailing(notification_delay=3600)
    alice, bob = await server.register("alice"), await reader(server, "bob")
    room = await named_room(alice, "Lobby", bob)

    async def planned() -> bool:
        return bool(await sql(server, "SELECT FROM mail_digests WHERE due_at IS NOT NULL"))

    await alice.send(room, "before")
    await until(planned)
    await bob.post(SET, json={"kind": None, "app_id": "m.email", "pushkey": f"{bob.localpart}@example.com"})
    await bob.post(SET, json=pusher(f"{bob.localpart}@example.com"))
    assert not await planned()
    await alice.send(room, "after")
    await until(planned)


async def test_letters_become_rarer_until_one_has_read(
    mailing: Callable[..., Awaitable[Server]], mailbox: Mailbox
) -> None:
    """PUSH-16: a room that was told of waits; another one does not, and takes it along; reading ends the pause."""
    server = await mailing(notification_pause=3600)
    alice, bob = await server.register("alice"), await reader(server, "bob")
    lobby, other = await named_room(alice, "Lobby", bob), await named_room(alice, "Other", bob)
    await alice.send(lobby, "one")
    assert "one" in text_of(await next_letter(server, mailbox))
    await nothing_is_planned(server)
    await alice.send(lobby, "two")

    async def waits_long() -> bool:
        return bool(
            await sql(server, "SELECT 1 FROM mail_digests WHERE due_at > now() + interval '50 minutes'")
        )

    await looks(server, waits_long)
    assert mailbox.empty()
    # As if the pause were over; then once more.
    for number, minutes in enumerate((60, 360)):
        await sql(
            server, "UPDATE mail_digest_rooms SET sent_ms = sent_ms - %(ms)s RETURNING 1", ms=minutes * 60_000
        )
        await sql(server, "UPDATE mail_digests SET due_at = now() RETURNING 1")
        await sql(server, "UPDATE jobs SET due_at = now() WHERE kind = 'push.mail' RETURNING 1")
        letter = text_of(await next_letter(server, mailbox))
        assert "one" not in letter, "each message is told once"
        assert ("two", "three")[number] in letter

        async def pauses(expected: int = (6 * 3_600_000, 24 * 3_600_000)[number]) -> bool:
            return (await sql(server, "SELECT pause_ms FROM mail_digest_rooms"))[0] == (expected,)

        await until(pauses)  # which is written down when the letter has gone
        await nothing_is_planned(server)
        server.app.features.pushers.mails._planned.clear()  # type: ignore[union-attr]
        await alice.send(lobby, ("three", "four")[number])
        await looks(server, waits_long)
    await sql(server, "UPDATE mail_digests SET due_at = NULL RETURNING 1")
    server.app.features.pushers.mails._planned.clear()  # type: ignore[union-attr]
    await alice.send(other, "elsewhere")
    letter = text_of(await next_letter(server, mailbox))
    assert "elsewhere" in letter
    assert "four" in letter
    await nothing_is_planned(server)
    last = await alice.send(lobby, "five")
    await bob.post(f"/rooms/{lobby}/receipt/m.read/{last}", json={})
    await alice.send(lobby, "six")
    assert "six" in text_of(await next_letter(server, mailbox))


async def test_a_letter_that_may_have_arrived_is_sent_again_as_it_was(
    mailing: Callable[..., Awaitable[Server]], mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PUSH-16: a process that dies after the mail server took a letter: the same letter, the same Message-ID, once."""
    server = await mailing(notification_pause=1)
    alice, bob = await server.register("alice"), await reader(server, "bob")
    room = await named_room(alice, "Lobby", bob)
    note, refused = store.note_letter, asyncio.Event()

    def fails(*args: Any) -> None:
        if not refused.is_set():
            refused.set()
            raise RuntimeError("killed")
        note(*args)

    monkeypatch.setattr(store, "note_letter", fails)
    await alice.send(room, "once")
    first = await next_letter(server, mailbox)
    await asyncio.wait_for(refused.wait(), 20)
    await alice.send(room, "later")

    async def hurried() -> bool:
        await sql(
            server,
            "UPDATE jobs SET due_at = now() WHERE kind = 'push.mail' AND owner IS NULL AND due_at > now() RETURNING 1",
        )
        return not mailbox.empty()

    await looks(server, hurried)
    second = await mailbox.next()
    assert second["Message-ID"] == first["Message-ID"]
    assert re.sub("atn_[\\w-]+", "", text_of(second)) == re.sub("atn_[\\w-]+", "", text_of(first))
    third = text_of(await next_letter(server, mailbox))
    assert "later" in third
    assert "once" not in third


async def test_letters_end_with_one_request(
    mailing: Callable[..., Awaitable[Server]], mailbox: Mailbox
) -> None:
    """PUSH-16, RFC 8058: the link asks first; a program's POST ends it; nothing of the secret is stored. In German."""
    server = await mailing(notification_content=False)
    alice, bob = await server.register("alice"), await reader(server, "bob", lang="de-DE", data={})
    room = await named_room(alice, "Foyer", bob)
    await alice.send(room, "geheim")
    letter = await next_letter(server, mailbox)
    assert letter["Subject"].endswith("hat Ihnen in Foyer geschrieben")
    assert "hat eine Nachricht gesendet" in text_of(letter)
    assert "geheim" not in text_of(letter) + html_of(letter)
    assert letter["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert letter["Auto-Submitted"] == "auto-generated"
    link = letter["List-Unsubscribe"][1:-1]
    assert link in text_of(letter)
    assert link in html_of(letter)
    token = link.partition("token=")[2]
    stored = await sql(server, "SELECT encode(hash, 'escape') FROM unsubscribe_tokens")
    assert stored
    assert token not in str(stored)
    url = link.replace(BASE, server.url)
    async with aiohttp.ClientSession() as client:
        async with client.get(url) as reply:
            assert reply.status == 200
            assert reply.headers["Content-Type"].startswith("text/html")
            asked = await reply.text()
            assert 'lang="de"' in asked
            assert "Abbestellen" in asked
        assert len((await bob.get("/pushers"))["pushers"]) == 1, "looking ends nothing"
        async with client.get(url + "x", headers={"Accept-Language": "de"}) as reply:
            assert reply.status == 400
        async with client.post(url, data={"List-Unsubscribe": "One-Click"}) as reply:
            assert reply.status == 200
            assert "Abbestellt" in await reply.text()
        async with client.post(url, data={"List-Unsubscribe": "One-Click"}) as reply:
            assert reply.status == 400
    assert (await bob.get("/pushers"))["pushers"] == []
    for table in ("mail_digests", "mail_digest_rooms", "unsubscribe_tokens"):
        assert await sql(server, f"SELECT 1 FROM {table}") == []  # type: ignore[arg-type]  # names of our own


async def test_an_address_that_is_taken_away_gets_no_more(
    mailing: Callable[..., Awaitable[Server]], mailbox: Mailbox
) -> None:
    """PUSH-16: the pusher ends with the address, and with the account."""
    server = await mailing()
    bob = await reader(server, "bob")
    gone = {"medium": "email", "address": f"{bob.localpart}@EXAMPLE.com"}
    await bob.post("/account/3pid/delete", json=gone)
    assert (await bob.get("/pushers"))["pushers"] == []
    carol, alice = await reader(server, "carol"), await server.register("alice")
    room = await named_room(alice, "Lobby", carol)
    await sql(server, "DELETE FROM threepids RETURNING 1")
    await alice.send(room, "to nobody")

    async def ended() -> bool:
        return (await carol.get("/pushers"))["pushers"] == []

    await looks(server, ended)
    assert mailbox.empty()
