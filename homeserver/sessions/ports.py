"""What sessions need from features above them; each is plugged in by `wiring`."""

from __future__ import annotations

from typing import Protocol

from homeserver.matrix.ids import DeviceId, UserId
from homeserver.storage.tx import Tx


class Appservice(Protocol):
    """A registered application service, as far as signing in is concerned."""

    @property
    def id(self) -> str: ...

    @property
    def sender(self) -> UserId:
        """The user it acts as when it names nobody."""
        ...

    @property
    def rate_limited(self) -> bool:
        """Whether its users count as others do; its sender never does."""
        ...

    def covers(self, user_id: UserId) -> bool:
        """Whether the user is its sender or in one of its namespaces."""
        ...


class Appservices(Protocol):
    """The registry, in memory; fulfilled by `appservices`."""

    def by_token(self, token: str) -> Appservice | None:
        """Whose `as_token` this is."""
        ...

    def claimed_by(self, user_id: UserId) -> str | None:
        """The id of the application service that has this user in an exclusive namespace."""
        ...


class NoAppservices:
    """None is registered."""

    def by_token(self, token: str) -> Appservice | None:
        del token
        return None

    def claimed_by(self, user_id: UserId) -> str | None:
        del user_id
        return None


class CrossSigningKeys(Protocol):
    """A device may not be called like a cross-signing key of its user; fulfilled by `e2ee`."""

    async def is_key(self, user_nid: int, device_id: DeviceId) -> bool: ...


class NoCrossSigningKeys:
    """Nobody has keys."""

    async def is_key(self, user_nid: int, device_id: DeviceId) -> bool:
        del user_nid, device_id
        return False


class DehydratedDevices(Protocol):
    """Nobody logs in as a device that the server keeps; fulfilled by `dehydrated`."""

    async def is_dehydrated(self, user_nid: int, device_id: DeviceId) -> bool: ...


class NoDehydratedDevices:
    """None is kept."""

    async def is_dehydrated(self, user_nid: int, device_id: DeviceId) -> bool:
        del user_nid, device_id
        return False


class OneTimeProof(Protocol):
    """Proof of who somebody is; fulfilled by `uia`."""

    async def consume(self, tx: Tx) -> None:
        """Use the proof up, in the transaction of what it was for. Raises `Forbidden` if another request was quicker."""
        ...
