"""A real Synapse that federates over TLS on the loopback address, as a person meets it.

`ensure_environment` installs it from PyPI once; a fixture `partner` starts one for a test:

    async def test_it(federation: Federation, partner: Partner) -> None:
        here, sven = await federation.start(), await partner.register("sven")

What others speak to is a `Relay` in front of it, so that a test can take it off the net: `partner.relay.close()`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

from tests.support.client import CheckedClient
from tests.support.process import free_port
from tests.support.relay import Relay
from tests.support.synapse import Synapse, SynapseSettings, ensure_environment
from tests.support.user import User

_numbers = count(1)
# Its own pauses begin with ten minutes.
_SOON = {"destination_min_retry_interval": "1s", "destination_max_retry_interval": "3s"}
_IMPATIENT = {**_SOON, "max_short_retries": 1, "max_long_retries": 2, "client_timeout": "10s"}


class Partner:
    """A Synapse over TLS: `name` is its server name, `relay` what others connect to."""

    def __init__(self, synapse: Synapse, relay: Relay) -> None:
        self.synapse = synapse
        self.relay = relay
        self.name = synapse.settings.server_name
        self.client = CheckedClient(synapse.url, contract=False)  # its answers are not ours to judge

    async def register(self, name: str) -> User:
        """Makes an account; the user ID is made unique."""
        body = {"username": f"{name}{next(_numbers)}", "password": "x", "auth": {"type": "m.login.dummy"}}
        reply = await self.client.post("/register", json=body)
        return User(
            client=self.client,
            user_id=reply["user_id"],
            token=reply["access_token"],
            device_id=reply["device_id"],
            password="x",
        )


@contextlib.asynccontextmanager
async def running(folder: Path, certificate: Path) -> AsyncIterator[Partner]:
    """One with its files in `folder`, until the block ends. `certificate`: PEM; its key is beside it, as `.key`."""
    port, tls = free_port(), free_port()
    relay = Relay({"host": "127.0.0.1", "port": tls}, free_port())
    listener = {"type": "http", "bind_addresses": ["127.0.0.1"]}
    extra: dict[str, Any] = {
        "listeners": [
            {**listener, "port": port, "resources": [{"names": ["client"], "compress": False}]},
            {**listener, "port": tls, "tls": True, "resources": [{"names": ["federation"]}]},
        ],
        "tls_certificate_path": str(certificate),
        "tls_private_key_path": str(certificate.with_suffix(".key")),
        "federation": _IMPATIENT,
        "allow_public_rooms_over_federation": True,
        "room_list_publication_rules": [{"action": "allow"}],
    }
    settings = SynapseSettings(port, server_name=f"localhost:{relay.port}", extra=extra)
    python = await asyncio.to_thread(ensure_environment)
    synapse = await asyncio.to_thread(Synapse.start, folder, settings, python)
    partner = Partner(synapse, relay)
    await relay.open()
    try:
        yield partner
    finally:
        await partner.client.close()
        relay.close()
        await asyncio.to_thread(synapse.stop, remove=True)


async def until_member(user: User, room: str, whom: str, membership: str) -> None:
    """Returns when `user` sees this membership: servers work some things off after they have answered."""
    found: str | None = None
    for _ in range(100):
        found = (await user.members(room)).get(whom)
        if found == membership:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{whom} is {found}, not {membership}")


async def until_invited(user: User, room: str) -> None:
    """Returns when `user` is told of an invite to the room, which has come since the last sync."""
    await user.sync_until(lambda reply: room in reply.get("rooms", {}).get("invite", {}), timeout=20)
