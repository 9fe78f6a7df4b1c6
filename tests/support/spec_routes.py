"""Which operation of the specification a request is: path templates, older version prefixes, unstable names.

A path is compared as it travels: percent-encoded, so that a `%2F` inside an event ID separates nothing (API-17).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

# What clients call -> what the specification calls it now. Tried in order after the path itself; every rewriting that
# matches is a candidate, and the first candidate that is an operation wins.
_REWRITINGS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^/_matrix/client/(?:r0|api/v1|v1|unstable)/", "/_matrix/client/v3/"),
        (r"^/_matrix/client/(?:r0|v3|unstable)/", "/_matrix/client/v1/"),
        (r"^/_matrix/media/(?:r0|v1|unstable)/", "/_matrix/media/v3/"),
        # the names in CHECKLIST section 26 that are stable under another path today
        (
            r"^/_matrix/client/unstable/im\.nheko\.summary/summary/([^/]+)$",
            r"/_matrix/client/v1/room_summary/\1",
        ),
        (
            r"^/_matrix/client/unstable/im\.nheko\.summary/rooms/([^/]+)/summary$",
            r"/_matrix/client/v1/room_summary/\1",
        ),
        (
            r"^/_matrix/client/unstable/uk\.half-shot\.msc2666/user/mutual_rooms$",
            "/_matrix/client/v1/mutual_rooms",
        ),
        # otherwise an unstable prefix stands before the path it became
        (r"^/_matrix/client/unstable/[^/]*\.msc\d+(?:\.[^/]+)?/", "/_matrix/client/v3/"),
        (r"^/_matrix/client/unstable/[^/]*\.msc\d+(?:\.[^/]+)?/", "/_matrix/client/v1/"),
    )
)

# The one path parameter that may be empty. spec: client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey
_MAY_BE_EMPTY = "{stateKey}"


def spellings(path: str) -> Iterator[str]:
    """The path itself, then what it would be called in the specification if it is an older or unstable name."""
    yield path
    for pattern, replacement in _REWRITINGS:
        rewritten, count = pattern.subn(replacement, path)
        if count and rewritten != path:
            yield rewritten


class RouteTable(Generic[T]):
    """Finds what was filed under a method and a path template; templates with more literal parts go first."""

    def __init__(self, entries: Iterable[tuple[str, str, T]]) -> None:
        found: dict[tuple[str, int], list[tuple[tuple[str, ...], T]]] = defaultdict(list)
        for method, template, entry in entries:
            parts = tuple(template.split("/"))
            found[method, len(parts)].append((parts, entry))
            if parts[-1] == _MAY_BE_EMPTY:  # ".../state/m.room.name" without the trailing slash (API-18)
                found[method, len(parts) - 1].append((parts[:-1], entry))
        for routes in found.values():
            routes.sort(key=lambda route: sum(_is_parameter(part) for part in route[0]))
        self._routes = dict(found)

    def find(self, method: str, path: str) -> list[T]:
        """All entries under the best matching template (the same path may be documented twice); [] when none."""
        for spelling in spellings(path.partition("?")[0]):
            parts = spelling.split("/")
            for template, _ in (routes := self._routes.get((method, len(parts)), ())):
                if _fits(template, parts):
                    return [entry for other, entry in routes if other == template]
        return []


def _is_parameter(part: str) -> bool:
    return part.startswith("{")


def _fits(template: tuple[str, ...], parts: list[str]) -> bool:
    return all(
        (bool(given) or wanted == _MAY_BE_EMPTY) if _is_parameter(wanted) else wanted == given
        for wanted, given in zip(template, parts, strict=True)
    )
