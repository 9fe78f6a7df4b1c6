"""Examines a set-up, one finding at a time: what `atrium doctor` prints. Changes nothing but starting the database."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from homeserver.config import Config, Listener
from homeserver.runtime import ports, signing_key
from homeserver.runtime.clock import Clock, SystemClock
from homeserver.storage import data_folder, migrate, owner
from homeserver.storage.embedded import EmbeddedPostgres
from homeserver.storage.errors import StorageError

_DISK_WRONG, _DISK_DOUBTFUL = 200 << 20, 2 << 30
_BESIDE_POOL = 3
"""Connections of a process beside its pool: to listen, and for its locks."""
_FILES_WANTED = 4096
_CLOCK_DOUBTFUL = 2.0  # seconds
_CERTIFICATE_DOUBTFUL = 14  # days
_THIS_CODE_IS_FROM = 1_790_000_000_000  # ms; a clock that shows an earlier time is wrong


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and what to do if it is not good."""

    verdict: Literal["good", "doubtful", "wrong"]
    sentence: str
    advice: str = ""


Further = Callable[[str], Iterable[Finding]]
"""Looks into a database whose schema is current, by its connection string."""


def examine(
    config: Config, clock: Clock | None = None, *, further: Further = lambda _: ()
) -> Iterator[Finding]:
    """All findings about a set-up, in the order in which one would put them right."""
    clock = clock or SystemClock()
    yield from _server_name(config)
    yield from _data_dir(config.server.data_dir)
    yield from _key(config.server.signing_key)
    yield from _clock(clock)
    yield from _process()
    for listener in config.listeners:
        yield from _listener(listener, clock)
    yield from _database(config, clock, further)


def _server_name(config: Config) -> Iterator[Finding]:
    name = config.server.name
    if name == "localhost" or name.startswith(("localhost:", "127.")):
        yield Finding(
            "doubtful",
            f"The server is called {name}: other servers cannot reach it, and the name can never be changed",
            "for more than trying it out, begin again with a domain of yours: atrium init --server-name example.com",
        )
    if config.federation.enabled and not any("federation" in each.resources for each in config.listeners):
        yield Finding(
            "doubtful",
            "Federation is enabled, but no listener carries it",
            "add federation to a listener's resources, or say federation.enabled: false",
        )


def _data_dir(folder: Path) -> Iterator[Finding]:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(
            "wrong", f"{folder} cannot be written to", f"give it to this user: chown -R $(id -u) {existing}"
        )
        return
    if existing == folder and data_folder.open_to_others(folder):
        yield Finding("doubtful", f"Others on this machine may look into {folder}", f"chmod 700 {folder}")
    free = shutil.disk_usage(existing).free
    sentence = f"{folder} has {free / (1 << 30):.1f} GB free"
    if free < _DISK_WRONG:
        yield Finding("wrong", sentence, "the database stops when the disk is full: make room")
    elif free < _DISK_DOUBTFUL:
        yield Finding("doubtful", sentence, "the database stops when the disk is full: make room soon")
    else:
        yield Finding("good", sentence)


def _key(path: Path) -> Iterator[Finding]:
    if not path.exists():
        yield Finding("good", f"The signing key {path} will be made at the first start")
        return
    try:
        key = signing_key.load(path)
    except signing_key.SigningKeyError as error:
        yield Finding("wrong", str(error), "put back the copy you kept; a new key would be another identity")
        return
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Finding("wrong", f"Others may read the signing key {path}", f"chmod 600 {path}")
    else:
        yield Finding("good", f"The signing key is {key.key_id}")


def _clock(clock: Clock) -> Iterator[Finding]:
    now = datetime.fromtimestamp(clock.now_ms() / 1000, UTC)
    if clock.now_ms() < _THIS_CODE_IS_FROM:
        yield Finding(
            "wrong",
            f"The clock shows {now:%Y-%m-%d %H:%M} UTC",
            "set it, and keep it right: timedatectl set-ntp true",
        )
    else:
        yield Finding("good", f"The clock shows {now:%Y-%m-%d %H:%M} UTC")


def _process() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FILES_WANTED:
        yield Finding(
            "doubtful",
            f"This process may open {soft} files: about as many people can be connected",
            f"raise it: ulimit -n {min(hard, 65536) if hard > soft else 65536}",
        )
    if os.geteuid() == 0:
        yield Finding(
            "doubtful", "You are root; Atrium needs no special rights", "run it as a user of its own"
        )


def _listener(listener: Listener, clock: Clock) -> Iterator[Finding]:
    where = str(listener.unix_socket or f"{listener.address} port {listener.port}")
    try:
        ports.settle_one(listener)
    except ports.PortTaken as error:
        yield Finding("doubtful", str(error), "fine if that is this server; else choose another port")
    else:
        yield Finding("good", f"{where} is free")
    if listener.tls is not None:
        yield from _certificate(listener.tls.certificate, clock)
    elif listener.address not in {"127.0.0.1", "::1", "localhost"} and listener.unix_socket is None:
        yield Finding(
            "doubtful",
            f"{where} can be reached from outside without TLS: passwords travel in the clear",
            "give it a certificate (listeners.N.tls), or listen on 127.0.0.1 behind a proxy that speaks TLS",
        )


def _certificate(path: Path, clock: Clock) -> Iterator[Finding]:
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        yield Finding("wrong", f"{path} is no certificate: {error}")
        return
    now = datetime.fromtimestamp(clock.now_ms() / 1000, UTC)
    left = (certificate.not_valid_after_utc - now).days
    until = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    if left < 0 or certificate.not_valid_before_utc > now:
        yield Finding("wrong", f"The certificate {path} is not valid now (it is until {until})", "renew it")
    elif left < _CERTIFICATE_DOUBTFUL:
        yield Finding("doubtful", f"The certificate {path} ends in {left} days", "renew it")
    else:
        yield Finding("good", f"The certificate {path} is valid until {until}")


def _database(config: Config, clock: Clock, further: Further) -> Iterator[Finding]:
    embedded = config.database.url is None
    try:
        with contextlib.ExitStack() as stack:
            if config.database.url is None:
                dsn = stack.enter_context(EmbeddedPostgres(config.server.data_dir).use())
            else:
                dsn = config.database.url
            state = migrate.inspect(dsn)
            yield from _schema(state, embedded=embedded)
            yield from _settings(dsn, config, clock)
            if not state.pending and not state.unknown:
                yield from _owner(dsn, config)
                yield from further(dsn)
    except StorageError as error:
        yield Finding("wrong", str(error))


def _schema(state: migrate.SchemaState, *, embedded: bool) -> Iterator[Finding]:
    if state.unknown:
        yield Finding(
            "wrong", f"A newer Atrium has used this database (it knows {state.unknown[-1]})", "install it"
        )
    elif state.newer:
        yield Finding(
            "good", f"A newer Atrium has used this database (it knows {state.newer[-1]}); this one may, too"
        )
    elif state.pending and embedded:
        yield Finding("good", f"The next start applies {len(state.pending)} migrations to the database")
    elif state.pending:
        yield Finding("wrong", f"The database lacks {len(state.pending)} migrations", "run: atrium migrate")
    else:
        yield Finding("good", "The database's schema is the one this version needs")


def _owner(dsn: str, config: Config) -> Iterator[Finding]:
    import psycopg

    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
        row = connection.execute("SELECT name, key_id, public_key FROM server_name").fetchone()
    if row is None:
        return
    noted = owner.Owner.of(*row)
    if noted.name != config.server.name:
        yield Finding("wrong", owner.refusal(noted.name, config.server.name))
    with contextlib.suppress(signing_key.SigningKeyError):  # told already
        key = signing_key.load(config.server.signing_key)
        if noted.key is not None and noted.key != (key.key_id, key.public_key):
            yield Finding("wrong", owner.key_refusal(noted.key.key_id, key.key_id))


def _settings(dsn: str, config: Config, clock: Clock) -> Iterator[Finding]:
    import psycopg

    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:

        def ask(sql: Any) -> Any:
            row = connection.execute(sql).fetchone()
            return row[0] if row else None

        yield Finding("good", f"The database is PostgreSQL {ask('SHOW server_version')}")
        if (encoding := ask("SHOW server_encoding")) != "UTF8":
            yield Finding("wrong", f"The database's encoding is {encoding}", "make it with ENCODING 'UTF8'")
        locale = ask("SELECT coalesce(datcollate, '') FROM pg_database WHERE datname = current_database()")
        if locale not in {"C", "POSIX", "C.UTF-8"}:
            yield Finding(
                "doubtful",
                f"The database sorts by the rules of {locale}, which change with the operating system",
                "make it with LOCALE 'C' TEMPLATE template0, or indexes may break when the system is upgraded",
            )
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            if ask(f"SHOW {setting}") == "off":
                yield Finding(
                    "wrong", f"The database runs with {setting} off: a power cut loses messages", "turn it on"
                )
        most = int(ask("SHOW max_connections"))
        wanted = config.server.processes * (config.database.pool_size + _BESIDE_POOL)
        if wanted > most - 5:
            yield Finding(
                "wrong", f"{wanted} connections may be needed, the database allows {most}", "lower pool_size"
            )
        elif config.database.shared:
            hosts = (most - 5) // wanted
            yield Finding(
                "good", f"The database allows {most} connections: {hosts} hosts like this one at once"
            )
        standbys = int(ask("SELECT count(*) FROM pg_stat_replication"))
        if standbys and not ask("SHOW synchronous_standby_names"):
            yield Finding(
                "doubtful",
                f"The database has {standbys} standbys, and does not wait for them: a failover loses what was written last",
                "set synchronous_standby_names; see docs/scaling.md",
            )
        apart = abs(clock.now_ms() / 1000 - float(ask("SELECT extract(epoch FROM clock_timestamp())")))
        if apart > _CLOCK_DOUBTFUL:
            yield Finding(
                "doubtful", f"The database's clock is {apart:.0f} seconds away from ours", "set both by NTP"
            )
