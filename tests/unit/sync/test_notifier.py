"""Waking long polls."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from homeserver.graph.rooms.cache import Rooms
from homeserver.log.entries import Entry, Written
from homeserver.matrix.ids import UserId
from homeserver.sync import notifier as module
from homeserver.sync.notifier import Notifier
from homeserver.sync.recipients import RecipientIndex
from homeserver.sync.types import Recipients
from homeserver.web.auth import Requester

ALICE = 1
REQUESTER = Requester(user_id=UserId("@alice:a.b"), user_nid=ALICE)


class News(Entry, frozen=True):
    of: int


@pytest.fixture
def notifier(monkeypatch: pytest.MonkeyPatch) -> Notifier:
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.05)
    recipients = RecipientIndex()
    recipients.add({News: lambda news: Recipients((news.of,))})
    return Notifier(cast("Rooms", None), recipients)


async def a_turn() -> None:
    """Everything that is ready now has had its turn."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_sender_is_answered_before_those_who_listen_hear_of_it(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 1.5)
    listening = asyncio.create_task(notifier.wait(REQUESTER, 60))
    await a_turn()
    notifier.applied([Written(1, News(ALICE))])
    await a_turn()
    assert not listening.done()
    assert await listening


async def test_what_is_written_shortly_after_one_another_wakes_once(notifier: Notifier) -> None:
    listening = asyncio.create_task(notifier.wait(REQUESTER, 5))
    await a_turn()
    notifier.applied([Written(1, News(ALICE))])
    notifier.applied([Written(2, News(ALICE))])
    assert await listening
    assert not await notifier.wait(REQUESTER, 0.1)


async def test_nobody_is_woken_by_what_concerns_others(notifier: Notifier) -> None:
    listening = asyncio.create_task(notifier.wait(REQUESTER, 0.2))
    await a_turn()
    notifier.applied([Written(1, News(2))])
    assert not await listening
