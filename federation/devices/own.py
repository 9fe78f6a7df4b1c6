"""Devices and keys of our users, for other servers: whole lists, and single ones in EDUs.

spec: op:getUserDevices, server-server-api/#mdevice_list_update (FED-30, FED-32)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from federation.devices.stream_ids import last_stream_id
from homeserver.e2ee.merge import UserKeys
from homeserver.e2ee.query import KeyQueries
from homeserver.e2ee.source import DeviceVersions
from homeserver.e2ee.types import MASTER, SELF_SIGNING
from homeserver.graph.interning import Interning
from homeserver.log.tail import Tail
from homeserver.matrix import json
from homeserver.matrix.errors import NotFound
from homeserver.matrix.ids import ServerName, UserId, domain_of

FIELDS = {MASTER: "master_key", SELF_SIGNING: "self_signing_key"}
"""Of what the keys are called here. The user-signing key is for its owner's eyes."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class OwnLists:
    """Answers other servers. Keeps nothing."""

    def __init__(
        self,
        queries: KeyQueries,
        versions: DeviceVersions,
        interning: Interning,
        tail: Tail,
        server_name: ServerName,
        *,
        named: bool,
    ) -> None:
        """`named`: whether others are told what people call their devices."""
        self._named = named
        self._queries = queries
        self._versions = versions
        self._interning = interning
        self._tail = tail
        self._server_name = server_name

    async def list_of(self, user_id: UserId) -> dict[str, Any]:
        """The answer of `/user/devices`. Raises `NotFound` for who is no user of this server."""
        nid = None
        if domain_of(user_id) == self._server_name:
            nid = (await self._interning.find_user_nids([user_id])).get(user_id)
        if nid is None:
            raise NotFound("There is no such user on this server")
        # The version first, and none that memory does not know of: the keys are of this version, or newer.
        newest = await self._versions.newest(nid, self._tail.position)
        keys = (await self._queries.of([user_id]))[user_id]
        devices = [
            described(device_id, raw, named=self._named) for device_id, raw in keys.by_device().items()
        ]
        return {
            "user_id": user_id,
            "stream_id": last_stream_id(newest) or 0,
            "devices": devices,
            **signing_keys(keys),
        }


def described(device_id: str, raw: bytes, *, named: bool) -> dict[str, Any]:
    """A device as other servers are told it. `raw`: its keys, as in an answer of `/keys/query`; `named`: whether they are told what
    its owner calls it.
    """
    members: Mapping[str, msgspec.Raw] = _members(raw)
    told: dict[str, Any] = {"device_id": device_id}
    told["keys"] = {name: value for name, value in members.items() if name != "unsigned"}
    if named and (unsigned := members.get("unsigned")) is not None:
        name = json.loads(unsigned).get("device_display_name")
        if isinstance(name, str):
            told["device_display_name"] = name
    return told


def signing_keys(keys: UserKeys) -> dict[str, msgspec.Raw]:
    """The cross-signing keys that others may see, by field."""
    found = {field: keys.key(usage) for usage, field in FIELDS.items()}
    return {field: msgspec.Raw(key) for field, key in found.items() if key is not None}
