"""Cross-origin access: every browser client may talk to this server.

spec: client-server-api/#web-browser-clients (CHECKLIST API-06, API-07)
"""

from __future__ import annotations

from typing import Final

METHODS: Final = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"
HEADERS: Final = "X-Requested-With, Content-Type, Authorization, Date, If-Match, If-None-Match"
EXPOSED: Final = "ETag, Retry-After, X-Request-Id"

ON_EVERY_ANSWER: Final[tuple[tuple[str, str], ...]] = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", METHODS),
    ("Access-Control-Allow-Headers", HEADERS),
    ("Access-Control-Expose-Headers", EXPOSED),
)

ON_PREFLIGHT: Final[tuple[tuple[str, str], ...]] = (("Access-Control-Max-Age", "86400"),)
"""A browser asks once a day instead of before every request."""
