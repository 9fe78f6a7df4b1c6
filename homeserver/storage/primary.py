"""Connecting to the database, which may have several addresses, and noticing soon when it is gone.

A connection string may name several hosts: a primary and its standbys (`host=a,b target_session_attrs=read-write`). Whoever
was the primary last is asked first: one that has lost its power says nothing, and every connection would wait for it anew.
Source: PostgreSQL documentation, "Connection Strings", "Specifying Multiple Hosts".
"""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import conninfo

SILENT: Final = 4
"""Seconds without any sign of life after which PostgreSQL counts as gone; at its side we do after twice as many."""
ONE, SEVERAL = 5, 3
"""Seconds for connecting, where there is one host, or another one to go on with."""

_NOTICE: Final[dict[str, Any]] = {
    "keepalives_idle": SILENT // 2,
    "keepalives_interval": 1,
    "keepalives_count": SILENT // 2,
    "tcp_user_timeout": SILENT * 1000,
}
NOTICE_THERE: Final = f"""\
SET tcp_keepalives_idle = {SILENT}; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = {SILENT};
SET tcp_user_timeout = {SILENT * 2000}"""
"""For the session: that PostgreSQL notices that we are gone, and frees what we have locked. No effect on Unix sockets."""


class Primary:
    """Remembers which of the hosts was the primary last. Of one user of the database: each finds out for itself."""

    def __init__(self) -> None:
        self._last: tuple[str, str] | None = None

    async def connect(self, dsn: str, **options: Any) -> psycopg.AsyncConnection[Any]:
        """A connection, in autocommit mode. `options`: further parameters of the connection.

        Raises:
            psycopg.OperationalError: no host can be reached, or is what the connection string asks for.
        """
        given = conninfo.conninfo_to_dict(dsn)
        several = "," in str(given.get("host") or given.get("hostaddr") or "")
        wait = {} if "connect_timeout" in given else {"connect_timeout": SEVERAL if several else ONE}
        parameters = {**_NOTICE, **wait, **(self._order(given) if several else given), **options}
        connection = await psycopg.AsyncConnection.connect(autocommit=True, **parameters)
        if several:
            info = connection.info
            self._last = (info.hostaddr if "hostaddr" in given else info.host, str(info.port))
        return connection

    def _order(self, given: dict[str, Any]) -> dict[str, Any]:
        """The same, with the last primary's address before the others."""
        parts = {
            name: str(given[name]).split(",") for name in ("host", "hostaddr", "port") if given.get(name)
        }
        count = max(map(len, parts.values()))
        parts = {name: values * count if len(values) == 1 else values for name, values in parts.items()}
        hosts, ports = parts.get("hostaddr", parts.get("host", [])), parts.get("port", ["5432"] * count)
        if len(hosts) != count or len(ports) != count:
            return given  # libpq says what is wrong
        places = sorted(range(count), key=lambda place: (hosts[place], ports[place] or "5432") != self._last)
        return {
            **given,
            **{name: ",".join(values[place] for place in places) for name, values in parts.items()},
        }
