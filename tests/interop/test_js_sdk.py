"""matrix-js-sdk, the engine of Element Web, in Node: whole clients on a whole server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.interop.audit import lost_to_device_messages
from tests.interop.plays import Asked, Play, need_node
from tests.support.process import HomeserverProcess

pytestmark = pytest.mark.interop
SOMEBODY_ELSES = bool(os.environ.get("ATRIUM_TEST_URL") or os.environ.get("ATRIUM_TEST_COMMAND"))


@pytest.fixture(scope="module", autouse=True)
def _node() -> None:
    need_node()


def restarts(server: HomeserverProcess | None) -> Any:
    """Answers a play that asks for an orderly restart."""

    async def restart(_: Asked) -> Mapping[str, Any]:
        if server is None:
            return {"restarted": False}
        await asyncio.to_thread(server.restart)
        return {"restarted": True}

    return restart


def keeps_the_contract(play: Play) -> None:
    """Every answer the SDK was given has the shape that the specification says; asked of our own server alone."""
    if not SOMEBODY_ELSES:
        assert play.broken_contract() == []


async def test_two_people_chat_and_page_back_through_500_messages(
    base_url: str, own_server: HomeserverProcess | None, tmp_path: Path
) -> None:
    play = Play("chat", base_url, tmp_path, {"restart": restarts(own_server)})
    await play.run(seconds=400)
    assert play.seen[-1] == "logging out"
    keeps_the_contract(play)


async def test_unread_counts_follow_messages_and_receipts(base_url: str, tmp_path: Path) -> None:
    """SYNC-11, SYNC-12, PUSH-14: as a client shows them."""
    play = Play("unread", base_url, tmp_path, {})
    await play.run(seconds=300)
    assert play.seen[-1] == "a new device counts the same"
    keeps_the_contract(play)


async def test_no_message_is_lost_doubled_or_unreadable_when_the_server_is_killed(
    killable: HomeserverProcess, tmp_path: Path
) -> None:
    async def kill(asked: Asked) -> Mapping[str, Any]:
        await asyncio.sleep(asked["after"] / 1000)  # the moment is the point: requests are on their way
        killable.kill9()
        return {}

    async def start(_: Asked) -> Mapping[str, Any]:
        await asyncio.to_thread(killable.start)
        return {}

    play = Play("encrypted", killable.base_url, tmp_path, {"kill": kill, "start": start})
    await play.run(seconds=400)
    assert "nothing lost, doubled or unreadable while the server was killed" in play.seen
    assert lost_to_device_messages(play.transcript) == []
    keeps_the_contract(play)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        pytest.param(
            "key-backup", "the backup going on", id="a new device reads history from the key backup"
        ),
        pytest.param(
            "fallback-key",
            "new one-time keys on return",
            id="the fallback key serves when one-time keys run out",
        ),
        pytest.param(
            "dehydrated",
            "the dehydrated device replaced",
            id="a dehydrated device receives while all devices are away",
        ),
    ],
)
async def test_encryption(name: str, end: str, base_url: str, tmp_path: Path) -> None:
    play = Play(name, base_url, tmp_path, {})
    await play.run(seconds=300)
    assert play.seen[-1] == end
    assert lost_to_device_messages(play.transcript) == []
    keeps_the_contract(play)


async def test_sliding_sync_over_200_rooms(base_url: str, tmp_path: Path) -> None:
    """MSC4186 as the SDK's `SlidingSync` speaks it."""
    play = Play("sliding", base_url, tmp_path, {})
    await play.run(seconds=300)
    assert play.seen[-1] == "in order, each once"
    keeps_the_contract(play)
