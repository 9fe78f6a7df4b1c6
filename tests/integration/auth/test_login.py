"""Logging in and out: CHECKLIST AUTH-01, AUTH-08 to AUTH-12, AUTH-30."""

import pytest

from tests.support.identity import IdentityServer
from tests.support.server import PASSWORD


async def test_a_registered_person_logs_in_and_out(server: IdentityServer) -> None:
    """AUTH-10, AUTH-30, API-14."""
    alice = await server.register("alice")
    phone = await alice.login()
    assert phone.device_id != alice.device_id
    assert (await phone.get("/account/whoami"))["device_id"] == phone.device_id
    await phone.logout()
    await phone.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))
    await alice.get("/account/whoami")
