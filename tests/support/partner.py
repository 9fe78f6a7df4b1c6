"""Homeservers that nobody here wrote, which federate over TLS on the loopback address, as a person meets them.

A fixture `partner` starts one for a test (tests/interop/conftest.py):

    async def test_it(federation: Federation, partner: Partner) -> None:
        here, sven = await federation.start(), await partner.register("sven")

What others speak to is a `Relay` in front of it, so that a test can take it off the net: `partner.relay.close()`.
`Partner.lacks` names what a program is known not to do, so that a play leaves that out and says why.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.support.client import CheckedClient
from tests.support.dendrite import Dendrite, DendriteSettings
from tests.support.other_homeserver import OtherHomeserver
from tests.support.process import free_port
from tests.support.relay import Relay
from tests.support.synapse import Synapse, SynapseSettings, ensure_environment
from tests.support.user import User

PASSWORD = "correct horse battery staple"
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
_numbers = count(1)
# Its own pauses begin with ten minutes.
_SOON = {"destination_min_retry_interval": "1s", "destination_max_retry_interval": "3s"}
_IMPATIENT = {**_SOON, "max_short_retries": 1, "max_long_retries": 2, "client_timeout": "10s"}


@dataclass
class Partner:
    """Another homeserver over TLS: `name` is its server name, `relay` what others connect to.

    `lacks`: verbs of the plays that it does not do, as the plays name them.
    """

    name: str
    program: OtherHomeserver
    relay: Relay
    lacks: frozenset[str] = frozenset()
    client: CheckedClient = field(init=False)

    def __post_init__(self) -> None:
        self.client = CheckedClient(self.program.url, contract=False)  # its answers are not ours to judge

    async def register(self, name: str) -> User:
        """Makes an account; the user ID is made unique."""
        body: dict[str, Any] = {"username": f"{name}{next(_numbers)}", "password": PASSWORD}
        asked = await self.client.post("/register", json=body, expect=401)
        auth = {"type": "m.login.dummy", "session": asked["session"]}
        reply = await self.client.post("/register", json={**body, "auth": auth})
        return User(
            client=self.client,
            user_id=reply["user_id"],
            token=reply["access_token"],
            device_id=reply["device_id"],
            password=PASSWORD,
        )


DENDRITE_LACKS = frozenset(
    {
        "aggregated relations",  # none in `unsigned`
        "redactions named in content",  # it reads `redacts` only where room versions before 11 have it, and shows nobody the event
        "rescinded invites",  # it neither tells a server that is not in the room, nor believes one where it is not in it
        "knocks",  # neither /knock nor /make_knock
        "signed state in invites",  # of room version 12, which are to be refused therefore (op:sendInviteV2)
        "room summaries",
        "names of files",  # neither sent nor read in the part that is the file
        "aliases that are not there",  # it answers 500 for every refusal of the other server
    }
)
SYNAPSE_LACKS = frozenset({"withdrawn knocks"})  # it tells nobody


@contextlib.asynccontextmanager
async def running_synapse(
    folder: Path, certificate: Path, *, named: int | None = None, options: Mapping[str, Any] = NO_OPTIONS
) -> AsyncIterator[Partner]:
    """A Synapse with its files in `folder`, until the block ends. `certificate`: PEM; its key is beside it, as `.key`.

    `named`: the port in its name, if others are to reach it through something in front of its relay; `options`: more of its
    configuration.
    """
    port, tls = free_port(), free_port()
    relay = Relay({"host": "127.0.0.1", "port": tls}, free_port())
    name = f"localhost:{named or relay.port}"
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
        **options,
    }
    settings = SynapseSettings(port, server_name=name, extra=extra)
    python = await asyncio.to_thread(ensure_environment)
    synapse = Synapse(folder, settings, python)
    await asyncio.to_thread(synapse.start)
    async with _reached(Partner(name, synapse, relay, SYNAPSE_LACKS)) as partner:
        yield partner


@contextlib.asynccontextmanager
async def running_dendrite(
    binary: Path, folder: Path, certificate: Path, database: str
) -> AsyncIterator[Partner]:
    """A Dendrite with its files in `folder` and an empty PostgreSQL database, until the block ends."""
    tls = free_port()
    relay = Relay({"host": "127.0.0.1", "port": tls}, free_port())
    settings = DendriteSettings(
        port=free_port(),
        tls_port=tls,
        server_name=f"localhost:{relay.port}",
        database=database,
        certificate=certificate,
    )
    dendrite = Dendrite(binary, folder, settings)
    await asyncio.to_thread(dendrite.start)
    async with _reached(Partner(settings.server_name, dendrite, relay, DENDRITE_LACKS)) as partner:
        yield partner


@contextlib.asynccontextmanager
async def _reached(partner: Partner) -> AsyncIterator[Partner]:
    await partner.relay.open()
    try:
        yield partner
    finally:
        await partner.client.close()
        partner.relay.close()
        await asyncio.to_thread(partner.program.stop)  # what it has said stays with the files of the test


async def until_member(user: User, room: str, whom: str, membership: str) -> None:
    """Returns when `user` sees this membership: servers work some things off after they have answered."""
    found: str | None = None
    for _ in range(600):
        found = (await user.members(room)).get(whom)
        if found == membership:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{whom} is {found}, not {membership}")


async def until_invited(user: User, room: str) -> None:
    """Returns when `user` is told of an invite to the room, which has come since the last sync."""
    await user.sync_until(lambda reply: room in reply.get("rooms", {}).get("invite", {}))
