"""State of a room or a user, as a handler sees it: what it changes lasts if the handler ends well, and is gone if it does not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from appservices.bots.errors import BotError
from appservices.bots.store import MAX_VALUE, Effects, Store


class State:
    """Names and JSON values. `scope`: whose."""

    def __init__(self, store: Store, effects: Effects, scope: str) -> None:
        self._store = store
        self._effects = effects
        self._scope = scope

    def get(self, name: str, default: Any = None) -> Any:
        """What was kept under the name; what this handler has changed counts already."""
        key = (self._scope, name)
        found = self._effects.state[key] if key in self._effects.state else self._store.value(*key)
        return default if found is None else found

    def set(self, name: str, value: Any) -> None:
        """Keep a value; None: nothing. Raises `BotError` for what is no JSON, or more than `MAX_VALUE` bytes of it."""
        try:
            size = len(json.dumps(value))
        except (TypeError, ValueError) as error:
            raise BotError(f"{name}: {error}") from None
        if size > MAX_VALUE:
            raise BotError(f"{name}: more than {MAX_VALUE} bytes")
        self._effects.state[self._scope, name] = value

    def delete(self, name: str) -> None:
        self.set(name, None)


class StateLocks:
    """One handler at a time has the state of a room, or of a user."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def of(self, scope: str) -> AsyncIterator[None]:
        """Holds the lock of a scope."""
        lock = self._locks.setdefault(scope, asyncio.Lock())
        self._users[scope] = self._users.get(scope, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._users[scope] -= 1
            if not self._users[scope]:
                del self._users[scope], self._locks[scope]


def scope_of(kind: str, id_: str) -> str:
    """`room`, `user` or `bot`, and which."""
    return f"{kind}:{id_}"
