"""Several hosts over one PostgreSQL: a supervisor with its processes for each, and a relay between it and the database.

    async with several_hosts(tmp_path, database, hosts=2, processes=2) as hosts:
        hosts[0].url                  # where its clients connect
        hosts[0].process.kill9()      # the whole host, at once
        hosts[0].relay.hold()         # its network loses every packet to and from the database
        hosts[0].relay.close()        # it is refused, and what was connected is cut

All are one server: one name, one signing key, `database.shared`.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg.conninfo

from tests.support.process import ConfiguredProcess, HomeserverProcess
from tests.support.relay import Relay


@dataclass
class ClusterHost:
    """One host, and its way to the database."""

    name: str
    process: ConfiguredProcess
    relay: Relay

    @property
    def url(self) -> str:
        """Where its clients connect, without a slash at the end."""
        return self.process.base_url


@contextlib.asynccontextmanager
async def several_hosts(
    folder: Path, dsn: str, *, hosts: int, processes: int, **sections: Any
) -> AsyncIterator[list[ClusterHost]]:
    """Started, and ended with the block. `sections` go into the configuration of each."""
    address = psycopg.conninfo.conninfo_to_dict(dsn)
    given: dict[str, Any] = {
        "server": {"signing_key_path": str(folder / "signing.key")},
        "database": {"shared": True, "pool_size": 4},
        "rate_limits": {"enabled": False},
        "log": {"requests": False, "format": "json"},
        **sections,
    }
    async with contextlib.AsyncExitStack() as stack:
        cluster: list[ClusterHost] = []
        for number in range(hosts):
            relay = Relay(address)
            await relay.open()
            stack.callback(relay.close)
            name = f"host{number}"
            relayed = psycopg.conninfo.make_conninfo(dsn, host="127.0.0.1", port=relay.port)
            process = ConfiguredProcess(folder / name, relayed, processes=processes, **given)
            stack.push_async_callback(asyncio.to_thread, process.close)
            cluster.append(ClusterHost(name, process, relay))
            await asyncio.to_thread(process.start)
        yield cluster


def leader_of(data: Path) -> int | None:
    """Which process of a host writes for the others: it holds a lock on a file. See proc_locks(5)."""
    try:
        inode = (data / "run" / "log" / "leader.lock").stat().st_ino
    except FileNotFoundError:
        return None
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
            return int(words[4])
    return None


def workers(server: HomeserverProcess) -> list[int]:
    """The processes that serve."""
    found: list[int] = []
    for pid in server.worker_pids():
        with contextlib.suppress(OSError):  # it may end between two looks
            if "worker" in Path(f"/proc/{pid}/cmdline").read_text():
                found.append(pid)
    return found


def all_serve(server: HomeserverProcess, processes: int) -> bool:
    """Whether all processes have begun to listen and answer the one above them, and one of them leads."""
    # until all listen /health finds nothing missing
    if not server.all_listen() or len(workers(server)) != processes or leader_of(server.data) is None:
        return False
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request("GET", "/health")
        return bool(json.loads(connection.getresponse().read())["checks"]["processes"] == "ok")
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
