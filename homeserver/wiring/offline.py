"""Accounts and files for commands: without listeners, beside a running server or without one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from appservices.administration import Administration
from appservices.entries import AppservicesChangedSink
from homeserver.config import Config
from homeserver.e2ee.ending import DeviceEnding
from homeserver.hooks.administration import HookAdministration
from homeserver.runtime import signing_key
from homeserver.runtime.clock import Entropy, SystemClock
from homeserver.storage import owner
from homeserver.storage.database import Database
from homeserver.storage.owner import PublicKey
from homeserver.to_device.entries import ToDeviceSink
from homeserver.to_device.stream import ToDeviceStream
from homeserver.web.rate_limit import RateLimiter
from homeserver.wiring.accounts import AccountsFeature
from homeserver.wiring.appservices import administration_of
from homeserver.wiring.core import Core
from homeserver.wiring.e2ee import KEY_SINKS
from homeserver.wiring.hooks import hook_administration_of
from homeserver.wiring.manifest import Manifest, connect
from homeserver.wiring.media import MediaFeature


@contextlib.asynccontextmanager
async def core_of(config: Config) -> AsyncIterator[Core]:
    """The log and the event graph on the configured, migrated database. A running server learns of every change."""
    dsn = config.database.url
    assert dsn is not None
    clock, entropy = SystemClock(), Entropy()
    key = signing_key.load_or_create(config.server.signing_key, entropy)
    async with Database(dsn, size=2) as db:
        await owner.settle(db, config.server.name, PublicKey(key.key_id, key.public_key))
        core = Core(config, db, key, clock, entropy, alone=False)
        kept_of_devices = Manifest(name="devices", sinks=[*KEY_SINKS, ToDeviceSink()])
        connect((core.manifest, kept_of_devices), core.tail, core.jobs)
        await core.tail.start()
        writer = asyncio.create_task(core.log.run())
        try:
            yield core
        finally:
            core.log.close()
            await writer


@contextlib.asynccontextmanager
async def accounts_of(config: Config) -> AsyncIterator[AccountsFeature]:
    """The account feature. What a change entails in rooms is done by the server, at once if it runs, else when it starts;
    what is kept of devices ends with them here.
    """
    async with core_of(config) as core:
        feature = AccountsFeature(config, core, RateLimiter(core.clock, {}))
        ending = Manifest(name="devices", device_listeners=[DeviceEnding(), ToDeviceStream(core.db)])
        connect((feature.manifest, ending), core.tail, core.jobs, feature.devices)
        try:
            yield feature
        finally:
            await feature.stop()


@contextlib.asynccontextmanager
async def appservices_of(config: Config) -> AsyncIterator[tuple[Administration, Database]]:
    """Registering application services at run time. A running server learns of it at once."""
    async with core_of(config) as core:
        connect((Manifest(name="appservices", sinks=[AppservicesChangedSink()]),), core.tail, core.jobs)
        yield administration_of(config, core), core.db


@contextlib.asynccontextmanager
async def hooks_of(config: Config) -> AsyncIterator[HookAdministration]:
    """Incoming webhooks. Their users come into rooms and leave them by the server, at once if it runs."""
    async with core_of(config) as core:
        accounts = AccountsFeature(config, core, RateLimiter(core.clock, {}))
        ending = Manifest(name="devices", device_listeners=[DeviceEnding(), ToDeviceStream(core.db)])
        connect((accounts.manifest, ending), core.tail, core.jobs, accounts.devices)
        try:
            yield hook_administration_of(core, accounts)
        finally:
            await accounts.stop()


@contextlib.asynccontextmanager
async def media_of(config: Config) -> AsyncIterator[MediaFeature]:
    """The files of a server. What is deleted from the blob store is deleted by the server, at once if it runs."""
    async with core_of(config) as core:
        accounts = AccountsFeature(config, core, RateLimiter(core.clock, {}))
        feature = MediaFeature(config, core, accounts.profiles)
        try:
            yield feature
        finally:
            await feature.stop()
            await accounts.stop()
