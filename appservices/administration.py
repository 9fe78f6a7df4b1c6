"""Registering services at run time, beside a running server or without one: `atrium appservice`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from appservices import store
from appservices.entries import AppservicesChanged
from appservices.registration import KEPT, read_yaml, require_distinct, service_of
from appservices.registry import DATABASE, read_files
from appservices.store import RegistrationRow, StandingRow
from appservices.types import Service
from homeserver.config import ConfigError
from homeserver.log.writer import LogWriter
from homeserver.matrix import json
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database


class Registered(NamedTuple):
    """A service as an administrator sees it."""

    service: Service
    standing: StandingRow | None
    """None: it was never told anything."""


class Administration:
    """Adds, removes and lists. All processes of a running server learn of it from the log."""

    def __init__(  # what it is made of; built in one place
        self, db: Database, log: LogWriter, clock: Clock, server_name: ServerName, files: Sequence[Path]
    ) -> None:
        self._db = db
        self._log = log
        self._clock = clock
        self._server_name = server_name
        self._files = files

    async def add(self, text: str, origin: str) -> tuple[Service, bool]:
        """Register a service, or replace the registration of one that was added so. Returns it, and whether it is new.

        `text`: a registration file; `origin`: what mistakes in it are told of. Raises `ConfigError`.
        """
        raw = read_yaml(text, origin)
        service = service_of(raw, self._server_name, origin)
        others = await self._services()
        before = next((each for each in others if each.id == service.id and each.origin == DATABASE), None)
        require_distinct([*(each for each in others if each is not before), service])
        kept = json.dumps({key: raw[key] for key in KEPT if key in raw})
        row = RegistrationRow(service.id, service.token_digest, kept)
        now_ms = self._clock.now_ms()
        await self._log.append(
            AppservicesChanged(service.id),
            alongside=lambda batch, _: store.upsert_registration(batch, row, now_ms),
        )
        return service, before is None

    async def remove(self, service_id: str) -> None:
        """Forget a service that was added so; its users stay. Raises `ConfigError`: there is none, or it has a file."""
        found = next((each for each in await self._services() if each.id == service_id), None)
        if found is None:
            raise ConfigError(service_id, [("", "there is no such application service")])
        if found.origin != DATABASE:
            raise ConfigError(service_id, [("", f"it is registered in {found.origin}, not in the database")])
        await self._log.append(
            AppservicesChanged(service_id),
            alongside=lambda batch, _: store.delete_registration(batch, service_id),
        )

    async def registered(self) -> list[Registered]:
        """All services, those of files first, and how it is with each. Raises `ConfigError`."""
        async with self._db.read() as tx:
            standings = {row.service_id: row for row in await store.list_standing(tx)}
        return [Registered(each, standings.get(each.id)) for each in await self._services()]

    async def _services(self) -> list[Service]:
        async with self._db.read() as tx:
            rows = await store.list_registrations(tx)
        stored = [
            service_of(json.loads(row.registration), self._server_name, DATABASE, row.token_hash)
            for row in rows
        ]
        return [*read_files(self._files, self._server_name), *stored]
