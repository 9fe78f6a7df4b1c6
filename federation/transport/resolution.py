"""From a server name to where the server is, in the order of the specification.

spec: server-server-api/#resolving-server-names (CHECKLIST DISC-04 to DISC-07)
"""

from __future__ import annotations

from typing import Final, Protocol

from federation.ports import Unreachable
from federation.transport.names import DEFAULT_PORT, HostPort, split_server_name
from federation.transport.routes import Route, Target
from federation.transport.srv import NotServed, SrvTargets
from federation.transport.well_known import WellKnown
from homeserver.matrix.ids import ServerName

_SERVICES: Final = ("_matrix-fed", "_matrix")
"""The second is deprecated, and asked for until nobody has it any more."""


class Resolver(Protocol):
    """Finds servers."""

    async def resolve(self, server_name: ServerName) -> Route:
        """Raises `ValueError` for what is no server name, `Unreachable` for one that says that it is nowhere."""
        ...


class ServerResolver:
    """Asks the name itself, then its well-known file, then DNS; what is asked remembers the answers."""

    def __init__(self, well_known: WellKnown, srv: SrvTargets) -> None:
        self._well_known = well_known
        self._srv = srv

    async def resolve(self, server_name: ServerName) -> Route:
        """See `Resolver`."""
        name = split_server_name(server_name)
        if (route := said_by_itself(name)) is not None:
            return route
        try:
            delegated = await self._well_known.find(server_name, name.host)
            if delegated is None:
                return await self._by_srv(name, ("4", "5", "6"))
            if (route := said_by_itself(delegated, step="3.")) is not None:
                return route
            return await self._by_srv(delegated, ("3.3", "3.4", "3.5"))
        except NotServed:
            raise Unreachable(server_name, "its SRV record says that it is not served") from None

    def forget(self, server_name: ServerName) -> None:
        """Find it anew next time. Raises `ValueError` for what is no server name."""
        host = split_server_name(server_name).host
        self._well_known.forget(host)
        self._srv.forget(host)

    async def close(self) -> None:
        """End what is under way."""
        await self._well_known.close()
        await self._srv.close()

    async def _by_srv(self, name: HostPort, steps: tuple[str, str, str]) -> Route:
        found = await self._srv.find_first(_SERVICES, name.host)
        if found is None:
            return direct(name, steps[2])
        # spec: the certificate and `Host` are of the name, not of what the record points to
        which, targets = found
        return Route(targets=targets, host_header=name.authority(None), tls_name=name.host, step=steps[which])


def said_by_itself(name: HostPort, *, step: str = "") -> Route | None:
    """Steps 1 and 2: an address, or a host with a port; None for all others."""
    if name.literal:
        return direct(name, f"{step}1")
    if name.port is not None:
        return direct(name, f"{step}2")
    return None


def direct(name: HostPort, step: str) -> Route:
    """The host itself, at the port it names or the default one."""
    return Route(
        targets=(Target(name.host, name.port or DEFAULT_PORT),),
        host_header=name.authority(name.port),
        tls_name=name.host,
        step=step,
    )
