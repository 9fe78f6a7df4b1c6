"""Every bound of an HTTP exchange, by name.

Owns the numbers only; `server.py`, `body.py` and `response.py` enforce them.

spec: client-server-api/#size-limits
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

JSON_BODY: Final = MIB
"""What an endpoint for clients accepts unless it or the configuration says otherwise: sixteen of the largest events."""

LARGE_JSON_BODY: Final = 12 * MIB
"""For endpoints that take many things at once (key backups), and what servers may send: 50 events and 100 EDUs."""

MAX_DEPTH: Final = 100
"""Nesting of a JSON body: what every encoder and checker behind the edge can walk without running out of stack."""

MAX_VALUES: Final = 100_000
"""Objects, lists and their members in one JSON body: what is read in some 20 ms. The largest honest bodies (keys of many
devices, sessions of a backup) have a fifth of it."""

COUNTED_FROM: Final = 64 * KIB
"""Bytes of a JSON body from which its values are counted before they are read."""

FORM_BODY: Final = 64 * KIB
"""Bytes of an HTML form: names, passwords and tokens."""

MAX_INTEGER: Final = 2**53 - 1
"""The largest whole number in a query or path, as in canonical JSON. spec: appendices/#canonical-json"""

MAX_SEGMENTS: Final = 32
"""Segments of a path; the longest route has eleven."""

MAX_QUERY_FIELDS: Final = 256
"""Fields of a query string or form; only `via`, `server_name` and the like repeat."""

MAX_REQUEST_LINE: Final = 16 * KIB
"""Bytes of method, path and query: a filter in a query string may have some kilobytes."""

MAX_HEADER_FIELD: Final = 16 * KIB
"""Bytes of one header field: an `X-Matrix` or single sign-on header is long."""

MAX_HEADERS: Final = 100

READ_BUFFER: Final = 64 * KIB
"""Bytes of a body that wait in memory until somebody reads them."""

HEADER_SECONDS: Final = 15.0
"""How long the head of a request may take: from its first byte or, of the first request, from the beginning of the connection."""

LINGER_SECONDS: Final = 5.0
"""How long the rest of a body is read that was answered already; and of the last answer of a connection something has to be
fetched in that time."""

HALF_CLOSED_SECONDS: Final = 3.0
"""How long a request that only reads is worked on for a client that has closed its half of the connection: one that waits for
its answer so looks no different from one that has gone."""

MIN_RATE: Final = 1024
"""Bytes per second that a client has to send or take on average, not to count as standing still."""

UNSENT_TOTAL: Final = 128 * MIB
"""Bytes of answers that wait for clients to take them, over all connections of a process. Beyond, who stands still longest is
cut off."""

MAX_CONNECTIONS: Final = 100_000
"""Connections of a process, if the operating system lets it have so many."""

FILES_FOR_OTHERS: Final = 1024
"""Open files left for the database, outgoing connections and media."""

MAX_FORWARDED_HOPS: Final = 32
"""Addresses of one `X-Forwarded-For` that are looked at."""

GZIP_FROM: Final = KIB
"""Bytes of an answer from which compressing pays."""

GZIP_IN_THREAD_FROM: Final = 128 * KIB
"""Bytes of an answer from which compressing would hold up the event loop for more than about a millisecond."""

STREAM_CHUNK: Final = 64 * KIB
"""Bytes collected from a streamed answer before they are sent."""
