"""Profiles of other servers' users, asked of their servers.

spec: server-server-api/#querying-for-information (CHECKLIST USER-05)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from federation.ports import Ask, Client, RemoteFault
from federation.queries.faults import as_error
from federation.queries.once import AskedOnce, Kept
from homeserver.matrix.ids import UserId, domain_of
from homeserver.profiles.types import AVATAR_URL, DISPLAYNAME, TIME_ZONE, Profile
from homeserver.runtime.cache import MemoryBudget
from homeserver.runtime.clock import Clock

KEPT: Final = Kept(found=300.0, failed=60.0, at_once=50)
SHARE: Final = 0.25
MAX_BYTES: Final = 128 * 1024
"""Of an answer: a profile has at most 64 KiB, and a name in it may be written longer than it is."""
MAX_KEY: Final = 255
SECONDS: Final = 10.0
_TEXTS: Final = frozenset({DISPLAYNAME, AVATAR_URL, TIME_ZONE})


class RemoteProfiles:
    """Fulfils `profiles.types.RemoteProfiles`. Owns a bounded cache of what was answered."""

    def __init__(self, client: Client, memory: MemoryBudget, clock: Clock) -> None:
        self._client = client
        self._asked: AskedOnce[UserId, Profile] = AskedOnce(memory, "remote_profiles", SHARE, clock, KEPT)

    async def fetch(self, user_id: UserId, field: str | None) -> Profile:
        """See the protocol; raises `Unavailable` with status 502, too. The whole profile is asked for, whatever is wanted of it:
        it is kept, and older servers know two fields alone.
        """
        del field
        return await self._asked.get(user_id, lambda: self._ask(user_id), _size)

    async def stop(self) -> None:
        """End what is under way."""
        await self._asked.stop()

    async def _ask(self, user_id: UserId) -> Profile:
        ask = Ask(
            method="GET",
            path=("_matrix", "federation", "v1", "query", "profile"),
            query=(("user_id", user_id),),
            timeout=SECONDS,
            max_bytes=MAX_BYTES,
            long_retry=False,
        )
        try:
            told = await self._client.ask(domain_of(user_id), ask, dict[str, Any])
        except RemoteFault as fault:
            raise as_error(fault) from None
        return {key: value for key, value in told.items() if _is_sound(key, value)}


def _is_sound(key: str, value: Any) -> bool:
    if value is None or len(key) > MAX_KEY:
        return False
    return isinstance(value, str) if key in _TEXTS else True


def _size(profile: Mapping[str, Any]) -> int:
    return 500 + 3 * len(msgspec.json.encode(profile))
