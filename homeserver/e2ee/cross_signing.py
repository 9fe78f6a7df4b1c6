"""Cross-signing keys: upload, checks, removal.

spec: client-server-api/#cross-signing (E2E-07, E2E-08, E2E-10)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from psycopg.errors import NotNullViolation

from homeserver.e2ee import signing_store, store
from homeserver.e2ee.entries import DeviceListEntry
from homeserver.e2ee.types import MASTER, SELF_SIGNING, USER_SIGNING, SigningRow
from homeserver.log.entries import Conflict, Written
from homeserver.log.writer import LogWriter
from homeserver.matrix import base64, canonical_json
from homeserver.matrix.errors import (
    BadJson,
    Forbidden,
    InvalidParam,
    InvalidSignature,
    MissingParam,
    NotFound,
    TooLarge,
)
from homeserver.matrix.ids import DeviceId, UserId
from homeserver.matrix.signing import verify_json
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline
from homeserver.web.auth import Requester

USAGES = {MASTER: "master", SELF_SIGNING: "self_signing", USER_SIGNING: "user_signing"}
FIELDS = {MASTER: "master_key", SELF_SIGNING: "self_signing_key", USER_SIGNING: "user_signing_key"}
MAX_KEY_BYTES = 16 * 1024
ED25519_BYTES = 32
REPLACEABLE_MS = 10 * 60 * 1000


class KeyUploadCheck(NamedTuple):
    """An upload that has passed all checks."""

    rows: Sequence[SigningRow]
    """What is new; empty: nothing changes."""
    needs_proof: bool
    """Whether the user must prove who they are: a master key exists, and keys change."""
    master: str | None
    """The master key there was."""


class CrossSigningService:
    """Stores, checks and removes cross-signing keys. Fulfils `auth.ports.CrossSigningKeys`. Keeps nothing in memory."""

    def __init__(self, db: Database, log: LogWriter, clock: Clock) -> None:
        self._db = db
        self._log = log
        self._clock = clock

    async def check(
        self, requester: Requester, keys: Mapping[int, Mapping[str, Any] | None]
    ) -> KeyUploadCheck:
        """See whether these keys may be uploaded. `keys`: usage -> object.

        Raises `InvalidParam`, `BadJson`, `MissingParam` (no master key), `InvalidSignature`, `Forbidden` (E2E-08).
        """
        async with self._db.read() as tx, tx.pipeline() as batch:
            signing = signing_store.find_signing_keys(batch, [requester.user_nid])
            device_ids = store.find_device_ids(batch, requester.user_nid)
            replaceable = signing_store.find_replaceable(batch, requester.user_nid)
        stored, devices = {row.usage: row for row in signing.result}, {row[0] for row in device_ids.result}
        rows: list[SigningRow] = []
        master = stored.get(MASTER)
        for usage in (MASTER, SELF_SIGNING, USER_SIGNING):
            given = keys.get(usage)
            if given is None:
                continue
            row = _read_key(requester, usage, given)
            if row.public_key in devices:
                raise Forbidden(f"{FIELDS[usage]}: a device is called like this key")
            if usage == MASTER:
                master = row
            elif master is None:
                raise MissingParam(f"{FIELDS[usage]}: there is no master key that could have signed it")
            else:
                _require_signed(requester.user_id, usage, given, master.public_key)
            rows.append(row)
        new = [row for row in rows if stored.get(row.usage) is None or stored[row.usage].key != row.key]
        until_ms = replaceable.result[0] if replaceable.result else None
        free = until_ms is not None and self._clock.now_ms() < until_ms
        before = stored[MASTER].public_key if MASTER in stored else None
        return KeyUploadCheck(new, before is not None and bool(new) and not free, before)

    async def let_replace(self, user_nid: int) -> int:
        """Let a user replace their keys without proof, once and soon: an administrator's act. Until when, in Unix
        milliseconds. Raises `NotFound`: they have no master key, and need no proof anyway.
        """
        until_ms = self._clock.now_ms() + REPLACEABLE_MS
        async with self._db.transaction() as tx:
            if not await signing_store.let_replace(tx, user_nid, until_ms):
                raise NotFound("This user has no cross-signing keys")
        return until_ms

    async def upload(self, requester: Requester, plan: KeyUploadCheck) -> None:
        """Store what `check` let through. Raises `Conflict`: the user has another master key by now; check again."""
        if not plan.rows:
            return
        own_only = all(row.usage == USER_SIGNING for row in plan.rows)
        me = requester.user_nid
        entry = DeviceListEntry(me, requester.user_id, me if own_only else None, devices=())

        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            signing_store.require_master(batch, me, plan.master)
            signing_store.upsert_signing_keys(batch, plan.rows)

        try:
            await self._log.append(entry, alongside=write)
        except NotNullViolation:
            raise Conflict from None

    async def reset(self, user_nid: int, user_id: UserId) -> None:
        """Remove all cross-signing keys of a user and the signatures made with them: an administrator's act."""

        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            signing_store.delete_signing_keys(batch, user_nid)

        await self._log.append(DeviceListEntry(user_nid, user_id, devices=()), alongside=write)

    async def forget_user(self, user_nid: int, user_id: UserId) -> None:
        """The account has ended."""
        await self.reset(user_nid, user_id)

    async def is_key(self, user_nid: int, device_id: DeviceId) -> bool:
        """Whether a device of that name would be called like a cross-signing key of the user (E2E-10)."""
        async with self._db.read() as tx:
            return await signing_store.is_signing_key(tx, user_nid, device_id)


def _read_key(requester: Requester, usage: int, key: Mapping[str, Any]) -> SigningRow:
    """Raises `InvalidParam`, `BadJson`, `TooLarge`."""
    where = FIELDS[usage]
    if key.get("user_id") != requester.user_id:
        raise InvalidParam(f"{where}.user_id: not the user who uploads")
    usages = key.get("usage")
    if not isinstance(usages, list) or USAGES[usage] not in usages:
        raise InvalidParam(f"{where}.usage: does not say {USAGES[usage]}")
    keys = key.get("keys")
    if not isinstance(keys, Mapping) or len(keys) != 1:
        raise InvalidParam(f"{where}.keys: exactly one key is expected")
    [(name, public_key)] = keys.items()
    if not isinstance(public_key, str) or name != f"ed25519:{public_key}" or not _is_ed25519(public_key):
        raise InvalidParam(f"{where}.keys: not an ed25519 key under its own name")
    data = canonical_json.encode({field: value for field, value in key.items() if field != "unsigned"})
    if len(data) > MAX_KEY_BYTES:
        raise TooLarge(f"{where}: more than {MAX_KEY_BYTES} bytes")
    signatures = key.get("signatures", {})
    if not isinstance(signatures, Mapping) or not all(isinstance(by, Mapping) for by in signatures.values()):
        raise BadJson(f"{where}.signatures: not an object of objects")
    if any(
        signer != requester.user_id for signer in signatures
    ):  # it would be shown as a signature of theirs
        raise InvalidParam(f"{where}.signatures: of somebody else")
    return SigningRow(requester.user_nid, usage, public_key, data)


def _is_ed25519(public_key: str) -> bool:
    try:
        return len(base64.decode(public_key)) == ED25519_BYTES
    except ValueError:
        return False


def _require_signed(user_id: UserId, usage: int, key: Mapping[str, Any], master: str) -> None:
    """Raises `InvalidSignature` unless the master key has signed it."""
    try:
        verify_json(key, user_id, f"ed25519:{master}", base64.decode(master))
    except ValueError:
        raise InvalidSignature(f"{FIELDS[usage]}: the master key is no Base64") from None
    except InvalidSignature as error:
        raise InvalidSignature(f"{FIELDS[usage]}: {error.error}") from None
