"""Invites to rooms that this server is not in, told to those who do not sync: phones, application services, mailboxes."""

from pathlib import Path

from tests.integration.federation.test_handshakes import scripted_invite
from tests.integration.push.test_mail import next_letter, reader
from tests.support import mailbox
from tests.support.appservice import FakeService
from tests.support.federation import Federation
from tests.support.mailbox import text_of
from tests.support.push_gateway import FakeGateway


async def test_a_phone_is_told_of_an_invite_from_another_server(federation: Federation) -> None:
    """PUSH-14, PG-02: it notifies, and counts; turned down, it does so no more."""
    async with FakeGateway() as gateway:
        there = await federation.start(outbound={"allow_private": {"push": ["127.0.0.1/32"]}})
        remote, bob = await federation.remote(), await there.register("bob")
        await bob.post("/pushers/set", json=gateway.pusher("phone"))
        room = await scripted_invite(remote, there, bob)
        told = await gateway.hears(
            lambda heard: next((each for each in heard.taken if each.get("room_id") == room), None), within=20
        )
        assert told["counts"] == {"unread": 1}
        remote.away = True
        await bob.leave(room)
        await gateway.hears(lambda heard: heard.badge("phone") == 0, within=60)


async def test_a_service_is_told_what_the_room_is(federation: Federation, tmp_path: Path) -> None:
    """AS-06: with the stripped state that came with the invite."""
    async with FakeService() as service:
        there = await federation.start(
            appservices={"registration_files": [str(service.file(tmp_path))]},
            outbound={"allow_private": {"appservices": ["127.0.0.1/32"]}},
        )
        body = {"type": "m.login.application_service", "username": "_irc_bob", "inhibit_login": True}
        reply = await there.client.post("/register", json=body, token=service.as_token)
        room = await scripted_invite(await federation.remote(), there, there.user(reply))
        await service.hears(lambda told: any(each["room_id"] == room for each in told.events), within=60)
        invite = next(each for each in service.events if each["room_id"] == room)
        assert invite["content"]["membership"] == "invite"
        assert [each["type"] for each in invite["unsigned"]["invite_room_state"]] == ["m.room.create"]


async def test_a_letter_tells_of_an_invite_from_another_server(federation: Federation) -> None:
    """PUSH-16: by whom; the room is named by what came with the invite, and this one has no name."""
    async with mailbox.running() as letters:
        section = {
            "host": "127.0.0.1",
            "port": letters.port,
            "security": "none",
            "sender": "a@matrix.test",
            "notification_delay": 1,
        }
        there = await federation.start(mail=section, server={"public_baseurl": "https://matrix.test"})
        remote, bob = await federation.remote(), await reader(there, "bob")
        await scripted_invite(remote, there, bob)
        letter = await next_letter(there, letters)
        assert "invites you to a room without a name" in letter["Subject"]
        assert "invites you to this room" in text_of(letter)
