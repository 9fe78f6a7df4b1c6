"""Several servers that federate over TLS on the loopback address: Atriums in this process, and scripted ones.

    async def test_it(federation: Federation) -> None:
        here, there = await federation.start(), await federation.start()     # Atriums: `Server`s, as everywhere
        remote = await federation.remote()                                   # scripted: tests/support/remote_server.py
        answer = await here.app.features.federation.client.ask(remote.name, Ask(method="GET", path=(…)), dict)
        status, answer = await remote.ask(here, "GET", "/_matrix/federation/v1/event/$x")   # signed by the remote server

Server names are `localhost:PORT`, so nothing has to be looked up. All show one certificate, which all trust. The fixture
`federation` is in tests/conftest.py. What is plugged together for federation is at `server.app.features.federation`
(homeserver/wiring/federation.py): `client`, `checker`, `ring`, `own_keys`, `partners`, `backoff`, `authenticator`.
"""

import asyncio
import atexit
import functools
import shutil
import ssl
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

from homeserver.config import Config, dev_config
from homeserver.config.listeners import Listener, TlsFiles
from tests.support import server as support_server
from tests.support.certificates import self_signed
from tests.support.process import free_port
from tests.support.remote_server import RemoteServer
from tests.support.server import Server, changed

Family = Literal["client", "federation", "media", "admin", "metrics", "health"]
FEDERATION: frozenset[Family] = frozenset({"federation"})
OTHERS: frozenset[Family] = frozenset({"client", "media", "admin", "metrics", "health"})


class Federation:
    """Starts servers; all end with the test."""

    def __init__(self, folder: Path, new_database: Callable[[], str], stack: AsyncExitStack) -> None:
        """`new_database`: the connection string of a migrated database nobody has used."""
        self._folder = folder
        self._new_database = new_database
        self._stack = stack
        self._count = 0
        self.certificate, self._tls = _certificate()
        self.trusting = ssl.create_default_context(cafile=str(self.certificate))
        """The context of a client that trusts all of them."""

    async def start(self, **sections: Any) -> Server:
        """An Atrium with the configuration of `tests.support.server.run`; `server.name` is its server name."""
        # The other servers go on while a database is made: they give up what stands still for too long.
        config = await asyncio.to_thread(self.config, **sections)
        return await self._stack.enter_async_context(support_server.running(config))

    async def remote(self, key: str = "a_1") -> RemoteServer:
        """A scripted server, whose signing key has this version."""
        self._count += 1
        seed = self._count.to_bytes(32, "big")
        remote = RemoteServer(free_port(), seed, key, self._tls, self.trusting)
        return await self._stack.enter_async_context(remote)

    def config(self, **sections: Any) -> Config:
        """Of an Atrium that is to be started: a name with a free port, a new database, two listeners."""
        self._count += 1
        folder = self._folder / f"atrium{self._count}"
        folder.mkdir()
        port = free_port()
        config = dev_config(port=0, data=folder, server_name=f"localhost:{port}", address="127.0.0.1")
        tls = TlsFiles(certificate=self.certificate, private_key=self.certificate.with_suffix(".key"))
        listeners = (
            Listener(port=0, resources=OTHERS),
            Listener(port=port, resources=FEDERATION, tls=tls),
        )
        trust = {"outbound": {"extra_ca_files": [self.certificate]}}
        changes = {name: {**trust.get(name, {}), **sections.get(name, {})} for name in {*trust, *sections}}
        return changed(config, **changes).with_listeners(listeners).with_database(self._new_database())


@functools.cache
def _certificate() -> tuple[Path, ssl.SSLContext]:
    """The one that all servers of this process show: what trusts it is read once, which takes tens of milliseconds."""
    folder = Path(tempfile.mkdtemp(prefix="atrium-certificate-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return self_signed(folder, dns=["localhost", "*.test"])
