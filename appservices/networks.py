"""Third-party networks: what all services together say of a protocol, and whom and what they find there.

spec: client-server-api/#third-party-networks, application-service-api/#third-party-networks (CHECKLIST AS-18)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import structlog

from appservices.client import AppserviceClient, Call, segment
from appservices.registry import Registry
from appservices.types import Service
from homeserver.matrix.ids import RoomAlias
from homeserver.runtime.clock import Clock
from homeserver.web.outbound import OutboundError

log = structlog.get_logger(__name__)

LEGACY: Final = "/_matrix/app/unstable"
TIMEOUT: Final = 10.0
KEPT_FOR, MISSING_FOR = 600.0, 30.0
"""Seconds for which it is remembered what a service says of a protocol, or that it says nothing."""
MAX_FOUND: Final = 1_000
"""Users or places that one lookup finds."""
MAX_INSTANCES: Final = 1_000
AT_ONCE: Final = 16
_NEEDED: Final[Mapping[str, Sequence[str]]] = {
    "user": ("userid", "protocol", "fields"),
    "location": ("alias", "protocol", "fields"),
}
What = Literal["user", "location"]


class _Said(NamedTuple):
    until: float
    metadata: dict[str, Any] | None


class Networks:
    """Asks services for their networks. Remembers what they say of protocols."""

    def __init__(self, registry: Registry, client: AppserviceClient, clock: Clock) -> None:
        self._registry = registry
        self._client = client
        self._clock = clock
        self._said: dict[tuple[str, str], _Said] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        registry.on_change(self._said.clear)

    async def protocols(self) -> dict[str, Any]:
        """All protocols that somebody speaks, with their instances."""
        names = dict.fromkeys(name for each in self._registry.services.values() for name in each.protocols)
        found = await asyncio.gather(*(self.protocol(name) for name in names))
        return {name: said for name, said in zip(names, found, strict=True) if said is not None}

    async def protocol(self, name: str) -> dict[str, Any] | None:
        """What is known of a protocol: of several services the fields of the first, the instances of all."""
        speakers = self._speakers(name)
        said = await asyncio.gather(*(self._metadata(each, name) for each in speakers))
        whole: dict[str, Any] | None = None
        for metadata in said:
            if metadata is None:
                continue
            if whole is None:
                whole = dict(metadata)
            else:
                whole["instances"] = [*whole["instances"], *metadata["instances"]][:MAX_INSTANCES]
        return whole

    async def find(self, what: What, protocol: str, fields: Mapping[str, str]) -> list[dict[str, Any]]:
        """Users or places on the networks of a protocol, of all services that speak it."""
        path = f"/thirdparty/{what}/{segment(protocol)}"
        return await self._gather(what, self._speakers(protocol), path, fields)

    async def behind(self, what: What, name: str) -> list[dict[str, Any]]:
        """What a Matrix user or alias is on third-party networks, as the services in whose namespaces it is say."""
        services = [
            each
            for each in self._registry.services.values()
            if each.url is not None
            and (each.watches(name) if what == "user" else each.watches_alias(RoomAlias(name)))
        ]
        field = "userid" if what == "user" else "alias"
        return await self._gather(what, services, f"/thirdparty/{what}", {field: name})

    def _speakers(self, protocol: str) -> list[Service]:
        return [
            each
            for each in self._registry.services.values()
            if each.url is not None and protocol in each.protocols
        ]

    async def _metadata(self, service: Service, protocol: str) -> dict[str, Any] | None:
        key, now = (service.id, protocol), self._clock.monotonic()
        known = self._said.get(key)
        if known is not None and known.until > now:
            return known.metadata
        answer = await self._ask(service, f"/thirdparty/protocol/{segment(protocol)}", {})
        metadata = _metadata_in(service, answer)
        self._said[key] = _Said(now + (MISSING_FOR if metadata is None else KEPT_FOR), metadata)
        return metadata

    async def _gather(
        self, what: What, services: Sequence[Service], path: str, query: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        answers = await asyncio.gather(*(self._ask(each, path, query) for each in services))
        needed = _NEEDED[what]
        found = [
            each
            for answer in answers
            if isinstance(answer, list)
            for each in answer[:MAX_FOUND]
            if isinstance(each, dict)
            and all(isinstance(each.get(key), str) for key in needed[:2])
            and isinstance(each.get(needed[2]), dict)
        ]
        return found[:MAX_FOUND]

    async def _ask(self, service: Service, path: str, query: Mapping[str, str]) -> Any:
        """What a service says; None where it says nothing of use."""
        call = Call(method="GET", path=path, query=query, timeout=TIMEOUT, legacy=LEGACY)
        try:
            async with self._slots:
                reply = await self._client.call(service, call)
        except OutboundError as error:
            log.info("appservice.not_asked", service=service.id, reason=str(error))
            return None
        return reply.json() if reply.ok else None


def _metadata_in(service: Service, answer: Any) -> dict[str, Any] | None:
    """What is usable of it, with the ids by which clients name the instances. spec: definitions/protocol.yaml"""
    if not isinstance(answer, dict):
        return None
    lists = [answer.get(key, []) for key in ("user_fields", "location_fields", "instances")]
    types = answer.get("field_types", {})
    if not all(isinstance(each, list) for each in lists) or not isinstance(types, dict):
        return None
    instances = [
        {**each, "instance_id": service.instance(each["network_id"])}
        for each in lists[2][:MAX_INSTANCES]
        if isinstance(each, dict)
        and isinstance(each.get("network_id"), str)
        and isinstance(each.get("desc"), str)
        and isinstance(each.get("fields", {}), dict)
    ]
    icon = answer.get("icon")
    return {
        "user_fields": [each for each in lists[0] if isinstance(each, str)],
        "location_fields": [each for each in lists[1] if isinstance(each, str)],
        "icon": icon if isinstance(icon, str) else "",
        "field_types": types,
        "instances": [{"fields": {}, **each} for each in instances],
    }
