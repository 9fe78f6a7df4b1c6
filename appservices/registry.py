"""All application services of this process: those of the configuration's files and those of the database.

Owns them in memory, so that a token or a name is looked up without waiting. They are read anew when an administrator
says so (SIGHUP: the files) and when the log says so (the database); what cannot be used leaves those in use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import structlog

from appservices import store
from appservices.entries import AppservicesChanged
from appservices.registration import read_yaml, require_distinct, service_of
from appservices.types import AsRequester, Service
from homeserver.config import ConfigError
from homeserver.log.entries import Entry, Position
from homeserver.matrix import json
from homeserver.matrix.ids import RoomAlias, ServerName, UserId
from homeserver.sessions.tokens import digest_of
from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

DATABASE = "the database"
"""Where a service was registered that an administrator added at run time."""


class Registry:
    """Fulfils `homeserver.sessions.ports.Appservices`; a projection of the log."""

    def __init__(self, db: Database, server_name: ServerName, files: Sequence[Path]) -> None:
        self._db = db
        self._server_name = server_name
        self._files = tuple(files)
        self._from_files: tuple[Service, ...] = ()
        self.services: dict[str, Service] = {}
        """By id."""
        self._by_digest: dict[bytes, AsRequester] = {}
        self._listeners: list[Callable[[], None]] = []
        self._settle: Callable[[Service], Awaitable[None]] | None = None
        self._turn = asyncio.Lock()
        self.wake = asyncio.Event()
        """Set when they should be read anew."""
        self.files_changed = False

    def settle_with(self, settle: Callable[[Service], Awaitable[None]]) -> None:
        """Call for each service when it is read: its sender needs an account."""
        self._settle = settle

    def on_change(self, tell: Callable[[], None]) -> None:
        """Call when services were added or removed, or are others."""
        self._listeners.append(tell)

    # --- asking ----------------------------------------------------------------------------------------------------

    def by_token(self, token: str) -> AsRequester | None:
        """See `Appservices.by_token`."""
        return self._by_digest.get(digest_of(token)) if self._by_digest else None

    def claimed_by(self, user_id: UserId) -> str | None:
        """See `Appservices.claimed_by`."""
        return next((each.id for each in self.services.values() if each.owns_user(user_id)), None)

    def alias_claimed_by(self, alias: RoomAlias) -> str | None:
        """The id of the service that has this alias in an exclusive namespace."""
        return next((each.id for each in self.services.values() if each.owns_alias(alias)), None)

    # --- the projection --------------------------------------------------------------------------------------------

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {AppservicesChanged: lambda _, __: self.wake.set()}

    def reset(self) -> None:
        """Entries were missed: what the database says may be another."""
        self.wake.set()

    # --- reading ---------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read files and database. Raises `ConfigError` with the place of each mistake, `psycopg.Error`, `StorageError`."""
        self._from_files = read_files(self._files, self._server_name)
        await self._take()

    async def refresh(self) -> None:
        """What the database says, and the files if `reload` was called. What cannot be used is logged, and changes nothing."""
        try:
            if self.files_changed:
                self.files_changed = False
                self._from_files = read_files(self._files, self._server_name)
            await self._take()
        except ConfigError as error:
            log.error("appservices.not_read", error=str(error))  # noqa: TRY400  # the sentence says it all

    def reload(self) -> None:
        """Read the files anew, soon."""
        self.files_changed = True
        self.wake.set()

    async def _take(self) -> None:
        async with self._turn:
            async with self._db.read() as tx:
                rows = await store.list_registrations(tx)
            stored = [
                service_of(json.loads(row.registration), self._server_name, DATABASE, row.token_hash)
                for row in rows
            ]
            found = [*self._from_files, *stored]
            require_distinct(found)
            before, after = self.services, {service.id: service for service in found}
            self.services = after
            self._by_digest = {service.token_digest: AsRequester(service) for service in found}
            if before != after:
                log.info("appservices.read", services=sorted(after))
                for tell in self._listeners:
                    tell()
            if self._settle is not None:
                for service in found:
                    if before.get(service.id) != service:
                        await self._settle(service)


def read_files(files: Sequence[Path], server_name: ServerName) -> tuple[Service, ...]:
    """The services of registration files. Raises `ConfigError` with all mistakes of the first file that has any."""
    services = []
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigError(str(path), [("", f"it cannot be read: {reason}")]) from None
        services.append(service_of(read_yaml(text, str(path)), server_name, str(path)))
    require_distinct(services)
    return tuple(services)
