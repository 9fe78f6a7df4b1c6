"""matrix-js-sdk, the engine of Element Web: people of our server and of a real Synapse speak with each other, encrypted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.interop.audit import lost_to_device_messages
from tests.interop.plays import Play, need_node
from tests.support.federation import Federation
from tests.support.partner import Partner

pytestmark = [
    *(pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(290)),
    pytest.mark.skipif(
        not os.environ.get("ATRIUM_TEST_ELSEWHERE"),
        reason="a minute and more: ATRIUM_TEST_ELSEWHERE=1 plays it",
    ),
]

SYNCS_UNDER_WAY = 10
"""While a message goes from one server to the other, at most."""


async def test_devices_come_and_go_and_get_other_keys(
    federation: Federation, partner: Partner, tmp_path: Path
) -> None:
    """FED-30 to FED-34, E2E-11: nobody reads less than they should, nor is written to after their device has gone."""
    need_node()
    here = await federation.start()
    play = Play("encrypted-elsewhere", here.url, tmp_path, other_url=partner.client.base_url)
    await play.run(seconds=270)
    assert play.seen[-1] == "other cross-signing keys are seen, and verified anew"
    assert lost_to_device_messages(play.transcript, SYNCS_UNDER_WAY) == []
    assert play.broken_contract() == []
