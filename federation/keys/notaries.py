"""Asking others what they know of the keys of servers that do not answer: notaries.

spec: server-server-api/#querying-keys-through-another-server (CHECKLIST FED-06)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import structlog

from federation.keys.responses import BadKeys, judge
from federation.keys.types import KeyQuery, KeyQueryAnswer, QueriedKey, ServerKeys
from federation.ports import Ask, Client, RemoteFault
from homeserver.events.signatures import WantedKeys
from homeserver.matrix.errors import InvalidSignature
from homeserver.matrix.ids import ServerName
from homeserver.matrix.signing import verify_json
from homeserver.runtime.clock import Clock
from homeserver.runtime.turns import pieces

_log = structlog.get_logger(__name__)

AT_ONCE: Final = 100
"""Servers that one request asks about."""
SECONDS: Final = 30.0
BYTES_A_SERVER: Final = 64 * 1024
IN_VAIN_MS: Final = 300_000
"""What no notary knew is not asked for again for so long."""
MAX_REMEMBERED: Final = 20_000


class Notary(NamedTuple):
    """A server that vouches for others."""

    server_name: ServerName
    keys: Mapping[str, bytes]
    """By key id; its answers must be signed with one of them. Empty: TLS alone vouches for them."""


class Notaries:
    """Those of the configuration, in their order."""

    def __init__(self, client: Client, notaries: Sequence[Notary], clock: Clock) -> None:
        self._client = client
        self._notaries = notaries
        self._clock = clock
        self._in_vain: dict[ServerName, int] = {}

    def __bool__(self) -> bool:
        return bool(self._notaries)

    async def ask(self, wishes: Mapping[ServerName, Sequence[WantedKeys]]) -> dict[ServerName, ServerKeys]:
        """What they know; each is asked about what those before it did not. Raises nothing for what they answer."""
        now = self._clock.now_ms()
        left = {name: wish for name, wish in wishes.items() if self._in_vain.get(name, 0) <= now}
        found: dict[ServerName, ServerKeys] = {}
        for notary in self._notaries:
            for names in pieces([name for name in left if name != notary.server_name], AT_ONCE):
                found.update(await self._ask_one(notary, {name: left[name] for name in names}))
            left = {name: wish for name, wish in left.items() if name not in found}
        for name in left:
            self._in_vain.pop(name, None)
            self._in_vain[name] = now + IN_VAIN_MS
        while len(self._in_vain) > MAX_REMEMBERED:
            del self._in_vain[next(iter(self._in_vain))]
        return found

    async def _ask_one(
        self, notary: Notary, wishes: Mapping[ServerName, Sequence[WantedKeys]]
    ) -> dict[ServerName, ServerKeys]:
        ask = Ask(
            method="POST",
            path=("_matrix", "key", "v2", "query"),
            content={"server_keys": {name: _criteria(wish) for name, wish in wishes.items()}},
            timeout=SECONDS,
            max_bytes=BYTES_A_SERVER * len(wishes),
        )
        try:
            answer = await self._client.ask(notary.server_name, ask, KeyQueryAnswer)
        except RemoteFault as fault:
            if fault.is_news:
                _log.info("federation.notary_not_asked", server=notary.server_name, problem=str(fault))
            return {}
        return await asyncio.to_thread(_judged, answer, notary, wishes, self._clock.now_ms())


def _criteria(wishes: Sequence[WantedKeys]) -> KeyQuery:
    return {
        key_id: QueriedKey(minimum_valid_until_ts=wish.minimum_valid_until_ts)
        for wish in wishes
        for key_id in wish.key_ids
    }


def _judged(
    answer: KeyQueryAnswer, notary: Notary, wishes: Mapping[ServerName, Any], now_ms: int
) -> dict[ServerName, ServerKeys]:
    found: dict[ServerName, ServerKeys] = {}
    for response in answer.server_keys[: 4 * AT_ONCE]:
        name = response.get("server_name")
        if not isinstance(name, str) or name not in wishes:
            continue
        try:
            if notary.keys:
                _vouched(response, notary)
            keys = judge(response, ServerName(name), now_ms)
        except (BadKeys, InvalidSignature) as error:
            _log.info(
                "federation.notary_not_believed", server=notary.server_name, of=name, problem=str(error)
            )
            continue
        before = found.get(keys.server_name)
        if before is not None:  # of an older answer what the newer one does not say any more
            newer, older = sorted((keys, before), key=lambda each: -each.valid_until_ts)
            keys = newer._replace(keys={**older.keys, **newer.keys})
        found[keys.server_name] = keys
    return found


def _vouched(response: Mapping[str, Any], notary: Notary) -> None:
    """One of the notary's keys has signed. Raises `InvalidSignature`."""
    wrong: InvalidSignature | None = None
    for key_id, public_key in notary.keys.items():
        try:
            return verify_json(response, notary.server_name, key_id, public_key)
        except InvalidSignature as error:
            wrong = error
    raise wrong or InvalidSignature("The notary has no key")
