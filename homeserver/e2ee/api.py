"""Endpoints of keys.

spec: client-server-api/#key-management-api, #cross-signing
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from homeserver.e2ee.cross_signing import CrossSigningService
from homeserver.e2ee.keys import KeyService
from homeserver.e2ee.query import KeyQueries
from homeserver.e2ee.signatures import SignatureService
from homeserver.e2ee.tracking import DeviceTracking
from homeserver.e2ee.types import MASTER, SELF_SIGNING, USER_SIGNING
from homeserver.log.keyed_locks import KeyedLocks
from homeserver.log.tail import Tail
from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.tokens import parse_token
from homeserver.uia.service import NOTHING_PROVED, Uia, uia_request
from homeserver.uia.stages import PASSWORD
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Path, Query, endpoint
from homeserver.web.request import RequestInfo
from homeserver.web.response import RawJson

KEYS = "/_matrix/client/{v}/keys"
UNSTABLE = "/_matrix/client/unstable/keys"
MAX_BODY = 2**20
"""Bytes of an upload of keys: a thousand keys of a kilobyte; clients send fifty to a hundred of a quarter of that."""
MAX_TIMEOUT = 30.0
"""Seconds that a client can have other servers waited for."""


class UploadBody(msgspec.Struct):
    """Keys of the device."""

    device_keys: dict[str, Any] | None = None
    one_time_keys: dict[str, Any] = {}
    fallback_keys: dict[str, Any] = {}
    unstable_fallback_keys: dict[str, Any] = msgspec.field(
        default={}, name="org.matrix.msc2732.fallback_keys"
    )


class Counts(msgspec.Struct):
    """One-time keys that wait."""

    one_time_key_counts: dict[str, int]


class QueryBody(msgspec.Struct):
    """user_id -> devices; none named: all."""

    device_keys: dict[str, list[str]]
    timeout: int = 10_000


class ClaimBody(msgspec.Struct):
    """user_id -> device_id -> algorithm."""

    one_time_keys: dict[str, dict[str, str]]
    timeout: int = 10_000


class Claims(msgspec.Struct):
    """Keys handed out."""

    one_time_keys: Mapping[str, Mapping[str, Mapping[str, Any]]]
    failures: Mapping[str, Any] = {}


class Changes(msgspec.Struct):
    """Whose keys have changed."""

    changed: list[str]
    left: list[str]


class SigningBody(msgspec.Struct):
    """Cross-signing keys."""

    master_key: dict[str, Any] | None = None
    self_signing_key: dict[str, Any] | None = None
    user_signing_key: dict[str, Any] | None = None
    auth: dict[str, Any] | None = None


class Failed(msgspec.Struct):
    """user_id -> key -> error."""

    failures: dict[str, dict[str, dict[str, Any]]]


def _seconds(timeout_ms: int) -> float:
    """How long other servers are waited for."""
    return min(max(timeout_ms, 0), round(MAX_TIMEOUT * 1000)) / 1000


class KeysApi:
    """Keys of devices and users."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        keys: KeyService,
        queries: KeyQueries,
        tracking: DeviceTracking,
        cross_signing: CrossSigningService,
        signatures: SignatureService,
        uia: Uia,
        tail: Tail,
    ) -> None:
        self._keys = keys
        self._queries = queries
        self._tracking = tracking
        self._cross_signing = cross_signing
        self._signatures = signatures
        self._uia = uia
        self._turns = KeyedLocks()
        self._tail = tail

    @endpoint(
        "uploadKeys",
        "POST",
        KEYS + "/upload",
        auth=Auth.GUEST_ALLOWED,
        when_suspended=True,
        max_body=MAX_BODY,
    )
    async def upload(self, requester: Requester, body: Body[UploadBody]) -> Counts:
        return await self._upload(requester, body, None)

    @endpoint(
        "uploadKeysForDevice",
        "POST",
        "/_matrix/client/r0/keys/upload/{deviceId}",
        auth=Auth.GUEST_ALLOWED,
        when_suspended=True,
        max_body=MAX_BODY,
    )
    async def upload_for_device(
        self, requester: Requester, device_id: Path[str], body: Body[UploadBody]
    ) -> Counts:
        return await self._upload(requester, body, device_id)

    async def _upload(self, requester: Requester, body: UploadBody, device_id: str | None) -> Counts:
        own = requester.device_id
        if own is None or (device_id is not None and device_id != own):
            raise InvalidParam("device_id: keys are uploaded by the device they belong to")
        counts = await self._keys.upload(
            requester.user_nid,
            requester.user_id,
            own,
            device_keys=body.device_keys,
            one_time_keys=body.one_time_keys,
            fallback_keys=body.fallback_keys or body.unstable_fallback_keys,
        )
        return Counts(counts)

    @endpoint("queryKeys", "POST", KEYS + "/query", auth=Auth.GUEST_ALLOWED, when_suspended=True)
    async def query(self, requester: Requester, body: Body[QueryBody]) -> RawJson:
        seconds = _seconds(body.timeout)
        return RawJson(
            await self._queries.query(requester.user_id, requester.user_nid, body.device_keys, seconds)
        )

    @endpoint("claimKeys", "POST", KEYS + "/claim", auth=Auth.GUEST_ALLOWED, when_suspended=True)
    async def claim(self, body: Body[ClaimBody]) -> Claims:
        claimed = await self._keys.claim_everywhere(body.one_time_keys, _seconds(body.timeout))
        return Claims(claimed.keys, claimed.failures)

    @endpoint("getKeysChanges", "GET", KEYS + "/changes", auth=Auth.GUEST_ALLOWED)
    async def changes(self, requester: Requester, from_: Query[str], to: Query[str]) -> Changes:
        since, upto = parse_token(from_, "from"), parse_token(to, "to")
        upto = min(upto, self._tail.position)
        changed, left = await self._tracking.between(requester, since, upto, None)
        return Changes(sorted(changed), sorted(left))

    @endpoint(
        "uploadCrossSigningKeys",
        "POST",
        [KEYS + "/device_signing/upload", UNSTABLE + "/device_signing/upload"],
        auth=Auth.USER,
        when_suspended=True,
    )
    async def upload_signing_keys(
        self, requester: Requester, body: Body[SigningBody], info: RequestInfo
    ) -> None:
        keys = {
            MASTER: body.master_key,
            SELF_SIGNING: body.self_signing_key,
            USER_SIGNING: body.user_signing_key,
        }

        async def upload() -> None:  # again where other keys came meanwhile: these may need a proof then
            plan = await self._cross_signing.check(requester, keys)
            proof = NOTHING_PROVED
            # spec: #post_matrixclientv3keysdevice_signingupload: none for appservices (1.17), the first key, no change (1.11)
            if plan.needs_proof and requester.appservice_id is None:
                proof = await self._uia.require(
                    uia_request("uploadCrossSigningKeys", requester, info), [[PASSWORD]]
                )
            await self._cross_signing.upload(requester, plan)
            await self._uia.forget(proof)

        await self._turns.changed(requester.user_nid, upload)

    @endpoint(
        "uploadCrossSigningSignatures",
        "POST",
        [KEYS + "/signatures/upload", UNSTABLE + "/signatures/upload"],
        auth=Auth.USER,
        when_suspended=True,
    )
    async def upload_signatures(
        self, requester: Requester, body: Body[dict[str, dict[str, dict[str, Any]]]]
    ) -> Failed:
        return Failed(await self._signatures.upload(requester, body))
