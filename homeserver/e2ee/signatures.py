"""Signatures of keys: of one's devices and master key, and of others' master keys.

Each is checked before it is kept; what fails is told per key and nothing of it is stored.
spec: client-server-api/#post_matrixclientv3keyssignaturesupload (E2E-06, E2E-09)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from homeserver.e2ee import signing_store, store
from homeserver.e2ee.entries import DeviceListEntry, of_devices
from homeserver.e2ee.types import (
    MASTER,
    SELF_SIGNING,
    USER_SIGNING,
    DeviceRow,
    SignatureRow,
    SigningRow,
)
from homeserver.graph.interning import Interning
from homeserver.log.entries import Written
from homeserver.log.writer import LogWriter
from homeserver.matrix import base64, canonical_json, json
from homeserver.matrix.errors import InvalidParam, InvalidSignature, MatrixError, NotFound
from homeserver.matrix.ids import UserId, is_user_id
from homeserver.matrix.signing import signature_in, verify_json
from homeserver.runtime.turns import next_turn
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline
from homeserver.web.auth import Requester

MAX_SIGNED = 1_000
SIGNED_AT_ONCE = 20
"""Objects looked at, then others have a turn: each is some tenths of a millisecond, with 64 KiB in it more."""
Objects = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""user_id -> device id or public key -> the signed object."""
Failures = dict[str, dict[str, dict[str, Any]]]


class _Known:
    """Keys of everybody concerned, as they are stored."""

    def __init__(self, devices: Sequence[DeviceRow], signing: Sequence[SigningRow]) -> None:
        self.objects: dict[tuple[int, str], bytes] = {(d.user_nid, d.device_id): d.keys for d in devices}
        self.signing: dict[tuple[int, int], SigningRow] = {(row.user_nid, row.usage): row for row in signing}
        self.objects.update({(row.user_nid, row.public_key): row.key for row in signing})

    def public_key(self, user_nid: int, usage: int) -> str | None:
        row = self.signing.get((user_nid, usage))
        return row.public_key if row else None


class SignatureService:
    """Checks and stores signatures of keys. Keeps nothing in memory."""

    def __init__(self, db: Database, log: LogWriter, interning: Interning) -> None:
        self._db = db
        self._log = log
        self._interning = interning

    async def upload(self, requester: Requester, signed: Objects) -> Failures:
        """Keep every signature that is right. Returns what is wrong: user -> key -> error. Raises `InvalidParam`."""
        if sum(len(keys) for keys in signed.values()) > MAX_SIGNED:
            raise InvalidParam(f"More than {MAX_SIGNED} signed objects")
        users = [UserId(user) for user in signed if is_user_id(user)]
        nids = await self._interning.find_user_nids([*users, requester.user_id])
        known = await self._known(list(nids.values()))
        rows: list[SignatureRow] = []
        failures: Failures = {}
        looked_at = 0
        for user_id, keys in signed.items():
            for key_id, given in keys.items():
                looked_at += 1
                if looked_at % SIGNED_AT_ONCE == 0:
                    await next_turn()
                try:
                    rows += _check(requester, known, nids.get(UserId(user_id)), key_id, given)
                except MatrixError as error:
                    failures.setdefault(user_id, {})[key_id] = error.to_json()
        await self._write(requester, nids, rows, {row.public_key for row in known.signing.values()})
        return failures

    async def _known(self, nids: Sequence[int]) -> _Known:
        async with self._db.read() as tx, tx.pipeline() as batch:
            devices = store.find_devices(batch, nids)
            signing = signing_store.find_signing_keys(batch, nids)
        return _Known(devices.result, signing.result)

    async def _write(
        self,
        requester: Requester,
        nids: Mapping[UserId, int],
        rows: Sequence[SignatureRow],
        signing: Collection[str],
    ) -> None:
        """`signing`: the public keys of cross-signing keys."""
        if not rows:
            return
        # Signatures of others' keys are seen by the signer alone; of one's own keys by everybody.
        me = requester.user_nid
        others = {row.target_nid for row in rows} - {me}
        entries = [DeviceListEntry(nid, user_id, me) for user_id, nid in nids.items() if nid in others]
        own = dict.fromkeys(row.target_key for row in rows if row.target_nid == me)
        entries += of_devices(me, requester.user_id, [key for key in own if key not in signing])
        if any(key in signing for key in own):
            entries.append(DeviceListEntry(me, requester.user_id, devices=()))

        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            signing_store.upsert_signatures(batch, rows)

        await self._log.append(*entries, alongside=write)


def _check(
    requester: Requester, known: _Known, target_nid: int | None, key_id: str, given: Mapping[str, Any]
) -> list[SignatureRow]:
    """The signatures to be kept of one object. Raises `NotFound`, `InvalidSignature`, `InvalidParam`."""
    stored = known.objects.get((target_nid, key_id)) if target_nid is not None else None
    if stored is None or target_nid is None:
        raise NotFound("There is no such key")
    if _bare(given) != _bare(json.loads(stored)):
        raise InvalidSignature("The signed object is not the key that is stored")
    signatures = given.get("signatures")
    own = signatures.get(requester.user_id) if isinstance(signatures, Mapping) else None
    if not isinstance(own, Mapping) or not own:
        raise InvalidSignature("There is no signature of yours on it")
    already = json.loads(stored).get("signatures", {}).get(requester.user_id, {})
    rows: list[SignatureRow] = []
    for signer_key in own:
        if own[signer_key] == already.get(signer_key):
            continue  # came with the key itself
        public_key = _signer(requester, known, target_nid, key_id, signer_key)
        verify_json(given, requester.user_id, signer_key, _decoded(public_key))
        signature = signature_in(given, requester.user_id, signer_key)
        rows.append(SignatureRow(target_nid, key_id, requester.user_nid, signer_key, signature))
    return rows


def _signer(requester: Requester, known: _Known, target_nid: int, key_id: str, signer_key: str) -> str:
    """The public key that may sign this target: E2E-06. Raises `InvalidSignature`."""
    name = signer_key.removeprefix("ed25519:")
    me = requester.user_nid
    if target_nid != me:
        # Others' master keys, with one's user-signing key.
        if key_id != known.public_key(target_nid, MASTER):
            raise InvalidSignature("Of others, only the master key can be signed")
        if name != known.public_key(me, USER_SIGNING):
            raise InvalidSignature("Not signed with your user-signing key")
        return name
    if key_id == known.public_key(me, MASTER):
        # One's own master key, with one's devices (or with itself).
        if name == key_id:
            return name
        device = known.objects.get((me, name))
        keys = json.loads(device).get("keys", {}) if device else {}
        public_key = keys.get(f"ed25519:{name}")
        if not isinstance(public_key, str):
            raise InvalidSignature(f"{signer_key} is none of your devices")
        return public_key
    if name != known.public_key(me, SELF_SIGNING):
        raise InvalidSignature("Not signed with your self-signing key")
    return name


def _bare(key: Mapping[str, Any]) -> bytes:
    return canonical_json.encode({k: v for k, v in key.items() if k not in ("signatures", "unsigned")})


def _decoded(public_key: str) -> bytes:
    try:
        return base64.decode(public_key)
    except ValueError:
        raise InvalidSignature("The signing key is no Base64") from None
