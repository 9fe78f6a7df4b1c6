"""People here and people of a real Synapse live in the same rooms, whichever server made them."""

from __future__ import annotations

import pytest

from tests.interop import played
from tests.interop.shared_rooms import OWNERS
from tests.support.federation import Federation
from tests.support.partner import Partner

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(280)]


@OWNERS
@pytest.mark.parametrize("versions", [("6", "7", "8", "10"), ("9", "11"), ("12",)], ids=" ".join)
async def test_a_chat(
    federation: Federation, partner: Partner, versions: tuple[str, ...], ours: bool
) -> None:
    """FED-08, FED-29"""
    await played.chats(federation, partner, versions, ours=ours)


async def test_what_is_asked(federation: Federation, partner: Partner) -> None:
    """FED-36 to FED-38"""
    await played.questions(federation, partner)


async def test_devices_and_their_keys(federation: Federation, partner: Partner) -> None:
    """FED-30 to FED-34, TD-01, TD-02"""
    await played.devices(federation, partner)


@OWNERS
async def test_a_thousand_events_of_before(federation: Federation, partner: Partner, ours: bool) -> None:
    """FED-16, ROOM-22"""
    await played.history(federation, partner, ours=ours)


@OWNERS
async def test_an_upgrade(federation: Federation, partner: Partner, ours: bool) -> None:
    await played.upgrades(federation, partner, ours=ours)


@OWNERS
async def test_coming_and_going_in_all_versions(federation: Federation, partner: Partner, ours: bool) -> None:
    """FED-18 to FED-28, JOIN-01 to JOIN-03"""
    await played.comings_and_goings(federation, partner, ours=ours)
