"""One request as the plumbing and, where it asks for it, a handler sees it.

Owns `RequestInfo`: lazily read query, headers and client address. Parsed values reach handlers as arguments, not
through here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import HttpVersion, hdrs
from multidict import CIMultiDictProxy

from homeserver.matrix.errors import InvalidParam
from homeserver.runtime.request_context import Pausable
from homeserver.web import limits
from homeserver.web.connection import Connection
from homeserver.web.http_parser import RequestBody, RequestHead, content_length
from homeserver.web.proxies import TrustedProxies
from homeserver.web.requester import Origin, Requester

_ENCODED = re.compile(r"[%+\0]")


class RequestInfo:
    """What is known of a request besides its declared parameters. Annotate a parameter `info: RequestInfo` to get it."""

    __slots__ = (
        "connection",
        "content",
        "headers",
        "version",
        "keep_alive",
        "method",
        "uri",
        "path",
        "path_values",
        "_number",
        "closing",
        "too_many",
        "requester",
        "origin",
        "body",
        "operation",
        "template",
        "started",
        "db_queries",
        "place",
        "errcode",
        "_proxies",
        "query",
        "_client",
    )

    def __init__(  # noqa: PLR0917  # made in one place, for every request
        self,
        connection: Connection,
        message: RequestHead,
        content: RequestBody,
        number: tuple[str, int],
        closing: asyncio.Event,
        proxies: TrustedProxies,
    ) -> None:
        self.connection = connection
        self.content = content
        """The body, for `stream.py` to read."""
        self.headers: CIMultiDictProxy[str] = connection.headers(message)
        """Case-insensitive; of a repeated header the first. Text that can be encoded as UTF-8."""
        self.version: HttpVersion = message.version
        self.keep_alive = not message.should_close
        """Whether the client wants the connection to stay."""
        self.method: str = message.method
        self.uri: str = origin_form(message.path)
        """Path and query exactly as sent: what a federation signature covers."""
        self.path: str = self.uri.partition("?")[0]
        """Still percent-encoded."""
        self.path_values: Mapping[str, str] = {}
        """The template's parameters by name, percent-decoded once."""
        self._number = number
        self.closing = closing
        """Set when the server shuts down: a long poll waits for it too and then answers at once."""
        self.too_many = False
        """The client behind a proxy has as many requests under way as it may."""
        self.requester: Requester | None = None
        self.origin: Origin | None = None
        self.body: bytes = b""
        """The body as sent; empty until it was read, and for endpoints that take a `BodyStream`."""
        self.operation = "unrecognized"
        """The operation id once the route is known: a label of bounded cardinality."""
        self.template = ""
        """The route's template once it is known."""
        self.started = 0.0
        """Monotonic seconds."""
        self.db_queries = 0
        self.place: Pausable | None = None
        """See `RequestContext`."""
        self.errcode: str | None = None
        self._proxies = proxies
        self._client: tuple[str, str] | None = None

    @property
    def request_id(self) -> str:
        """What log lines, and answers that say "our fault", call this request."""
        return f"{self._number[0]}-{self._number[1]:x}"

    @property
    def user_agent(self) -> str:
        """At most 512 characters; empty if not sent."""
        return self.headers.get(hdrs.USER_AGENT, "")[:512]

    @property
    def content_length(self) -> int | None:
        """What `Content-Length` says, if anything."""
        return content_length(self.headers)

    @property
    def ip(self) -> str:
        """The client's address, as told by trusted proxies; empty on a Unix socket without one."""
        return self._resolved()[0]

    @property
    def scheme(self) -> str:
        """`http` or `https` as the client sees it, as told by trusted proxies."""
        return self._resolved()[1]

    query: Mapping[str, list[str]]
    """The decoded query, taken apart when it is asked for first: then it raises `InvalidParam` where it is not UTF-8 or has too
    many fields."""

    def __getattr__(self, name: str) -> Any:
        # Called for a slot that is not filled.
        if name != "query":
            raise AttributeError(name)
        self.query = parse_query(self.uri[len(self.path) + 1 :])
        return self.query

    def query_value(self, name: str) -> str | None:
        """The first value of a query parameter."""
        values = self.query.get(name)
        return values[0] if values else None

    def _resolved(self) -> tuple[str, str]:
        if self._client is None:
            peer, scheme, headers = self.connection.peer, self.connection.scheme, self.headers
            if hdrs.X_FORWARDED_FOR in headers or hdrs.X_FORWARDED_PROTO in headers:
                self._client = self._proxies.client_of(peer, scheme, headers)
            else:
                self._client = peer, scheme  # nobody says that it is somebody else
        return self._client


def origin_form(target: str) -> str:
    """Path and query of a request target, which a proxy may send with scheme and authority."""
    if target.startswith("/"):
        return target
    scheme, mark, rest = target.partition("://")
    if mark and scheme.lower() in {"http", "https"}:
        slash = rest.find("/")
        return rest[slash:] if slash >= 0 else "/"
    return "/" + target


def parse_query(text: str) -> dict[str, list[str]]:
    """`a=1&b=2&a=3` as `{"a": ["1", "3"], "b": ["2"]}`; also the body of an HTML form."""
    fields: dict[str, list[str]] = {}
    if not text:
        return fields
    pairs = text.split("&", limits.MAX_QUERY_FIELDS)
    if len(pairs) > limits.MAX_QUERY_FIELDS:
        raise InvalidParam(f"The query has more than {limits.MAX_QUERY_FIELDS} fields")
    plain = text.isascii() and not _ENCODED.search(text)
    for pair in pairs:
        if pair:
            name, _, value = pair.partition("=")
            if not plain:
                name, value = _decode(name, "query"), _decode(value, name)
            if name in fields:
                fields[name].append(value)
            else:
                fields[name] = [value]
    return fields


def _decode(text: str, where: str) -> str:
    try:
        if "%" in text or "+" in text:
            text = unquote_plus(text, errors="strict")
        if not text.isascii():
            text.encode()
    except UnicodeError:
        raise InvalidParam(f"{ascii(where)[1:-1]}: not UTF-8") from None
    if "\0" in text:
        raise InvalidParam(f"{ascii(where)[1:-1]}: contains U+0000")
    return text
