"""Moderators are told of reports by mail (MOD-01): how many, and nothing of what was said."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from homeserver.config.mail import MailSection
from tests.conftest import StartServer
from tests.support import mailbox as support_mailbox
from tests.support.background import jobs_done
from tests.support.mailbox import Mailbox
from tests.support.server import Server


def section(mailbox: Mailbox, *recipients: str) -> dict[str, Any]:
    return {
        "host": "127.0.0.1",
        "port": mailbox.port,
        "security": "none",
        "sender": "Atrium <noreply@example.com>",
        "reports_to": list(recipients),
    }


async def now(server: Server) -> None:
    """What waits until its five minutes are over is sent."""
    assert server.app is not None
    async with server.app.core.db.transaction() as tx:
        await tx.execute("UPDATE jobs SET due_at = now() WHERE kind = 'reports.letter'")
    server.app.core.jobs.wake()


async def test_who_is_named_gets_one_letter_for_all_reports_of_a_while(start_server: StartServer) -> None:
    async with support_mailbox.running() as mailbox:
        server = await start_server(
            mail=section(mailbox, "one@example.com", "two@example.com"),
            server={"public_baseurl": "https://matrix.example.com"},
        )
        alice, bob = await server.register("alice"), await server.register("bob")
        room = await alice.create_room(preset="public_chat")
        event = await alice.send(room, "unspeakable")
        await bob.join(room)
        for reason in ("because", "still"):
            await bob.post("/rooms/{}/report/{}", room, event, json={"reason": reason})
        await bob.post("/users/{}/report", alice.user_id, json={"reason": "their manners"})
        await now(server)
        told: dict[str, Counter[str]] = {"one@example.com": Counter(), "two@example.com": Counter()}
        expected = {"messages": 2, "users": 1}
        while any(counts != expected for counts in told.values()):
            letter = await mailbox.next()
            text = letter.get_body(("plain",)).get_content()  # type: ignore[union-attr]  # it has one
            told[letter["To"]].update({what: int(count) for what, count in re.findall(r"(\w+): (\d+)", text)})
            assert not re.search("unspeakable|because|manners|alice|bob", letter.as_string())


async def test_nobody_is_told_of_what_was_dealt_with(start_server: StartServer) -> None:
    async with support_mailbox.running() as mailbox:
        server = await start_server(
            mail=section(mailbox, "one@example.com"), server={"public_baseurl": "https://matrix.example.com"}
        )
        alice = await server.register("alice")
        for times in range(2):
            await alice.post("/users/{}/report", alice.user_id, json={"reason": f"{times}"})
            if times == 0:
                assert server.app is not None
                async with server.app.core.db.transaction() as tx:
                    await tx.execute("DELETE FROM reports")
                await now(server)
                await jobs_done(server, "reports.letter")
        await now(server)
        letter = await mailbox.next()
        assert "users: 1" in letter.get_body(("plain",)).get_content()  # type: ignore[union-attr]  # it has one
        assert mailbox.empty()


@pytest.mark.parametrize(
    "wrong", ["nobody", "A <a@example.com>", "a@b\n", "", "a@example.com, b@example.com"]
)
def test_recipients_are_addresses(wrong: str) -> None:
    with pytest.raises(ValidationError):
        MailSection(host="localhost", sender="a@example.com", reports_to=(wrong,))
