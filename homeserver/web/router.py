"""From method and raw path to an endpoint: a trie over path segments.

Owns matching. A segment is percent-decoded once, after the path was split, so that identifiers may contain `/`. `{name}` is one
segment, `{+name}` all that are left (RFC 6570 calls that reserved expansion).

spec: client-server-api/#common-error-codes (M_UNRECOGNIZED)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote

from homeserver.matrix.errors import InvalidParam, Unrecognized
from homeserver.web import limits
from homeserver.web.binding import Bound


class Clash(Exception):
    """Two endpoints claim the same method and path."""


class Route(NamedTuple):
    """An endpoint at one of its paths."""

    bound: Bound
    names: tuple[str, ...]
    """The template's parameters, in order."""
    template: str


@dataclass(slots=True)
class _Node:
    literal: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    rest: _Node | None = None
    """What takes all further segments."""
    routes: dict[str, Route] = field(default_factory=dict)
    """By method."""


class Router:
    """Knows the paths of one listener."""

    def __init__(self) -> None:
        self._root = _Node()
        self._static: dict[str, _Node] = {}
        self.methods: set[str] = set()
        """Every method that is served somewhere."""

    def add(self, bound: Bound) -> None:
        """Serve an endpoint at all its paths. Raises `Clash`."""
        for template in bound.endpoint.paths:
            node, names = self._root, []
            for segment in template[1:].split("/"):
                if segment.startswith("{+"):
                    names.append(segment[2:-1])
                    node.rest = node.rest or _Node()
                    node = node.rest
                elif segment.startswith("{"):
                    names.append(segment[1:-1])
                    node.parameter = node.parameter or _Node()
                    node = node.parameter
                else:
                    node = node.literal.setdefault(segment, _Node())
            method = bound.endpoint.method
            if other := node.routes.get(method):
                raise Clash(
                    f"{method} {template}: {bound.endpoint.operation_id} and {other.bound.endpoint.operation_id}"
                )
            node.routes[method] = Route(bound, tuple(names), template)
            self.methods.add(method)
            if not names:
                self._static[template] = node

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route and its decoded path parameters; HEAD finds GET.

        Raises:
            Unrecognized: 404 for an unknown path; 405 with `Allow` for a known path with another method.
            InvalidParam: a segment is not UTF-8 or contains U+0000.
        """
        wanted = "GET" if method == "HEAD" else method
        static = self._static.get(path)
        if static is not None and (route := static.routes.get(wanted)):
            return route, _NO_VALUES
        allowed: set[str] = set()
        for node, values in _walk(self._root, _segments(path), 0, ()):
            if route := node.routes.get(wanted):
                return route, dict(zip(route.names, values, strict=True))
            allowed.update(node.routes)
        if allowed:
            raise _wrong_method(allowed)
        raise Unrecognized("Unrecognized request")


_NO_VALUES: dict[str, str] = {}


def _segments(path: str) -> list[str]:
    if path.count("/") > limits.MAX_SEGMENTS:
        raise Unrecognized("Unrecognized request")
    segments = path[1:].split("/")
    if "%" in path or not path.isascii() or "\0" in path:
        return [_decode(segment) for segment in segments]
    return segments


def _decode(segment: str) -> str:
    try:
        decoded = unquote(segment, errors="strict")
        decoded.encode()
    except UnicodeError:
        raise InvalidParam("The path is not UTF-8") from None
    if "\0" in decoded:
        raise InvalidParam("The path contains U+0000")
    return decoded


def _walk(
    node: _Node, segments: list[str], at: int, values: tuple[str, ...]
) -> Iterator[tuple[_Node, tuple[str, ...]]]:
    """Every node that the segments lead to, the most literal first. Bounded by the depth of the trie."""
    rest: tuple[_Node, tuple[str, ...]] | None = None
    while at < len(segments):
        segment = segments[at]
        if node.rest is not None:
            rest = node.rest, (*values, "/".join(segments[at:]))
        at += 1
        literal = node.literal.get(segment)
        parameter = node.parameter if segment else None
        if literal is not None and parameter is not None:
            yield from _walk(literal, segments, at, values)
        if parameter is not None:
            node, values = parameter, (*values, segment)
        elif literal is not None:
            node = literal
        else:
            break
    else:
        if node.routes:
            yield node, values
    if rest is not None:
        yield rest


def _wrong_method(allowed: set[str]) -> Unrecognized:
    error = Unrecognized("Unrecognized request: this path does not know the method", status=405)
    allowed = allowed | {"OPTIONS"} | ({"HEAD"} if "GET" in allowed else set())
    error.headers["Allow"] = ", ".join(sorted(allowed))
    return error
