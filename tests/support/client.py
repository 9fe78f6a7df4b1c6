"""The HTTP client of all tests: whatever a server answers is checked against the contract before the test sees it.

A path that does not start with `/_` or `/.` is below `/_matrix/client/v3`. Each `{}` in it takes one argument,
percent-encoded whole: `await client.get("/rooms/{}/state/{}/{}", room_id, "m.room.name", "")`.
"""

import json as stdlib_json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import yarl

from tests.support.spec import Exchange, problems_of
from tests.support.spec_rules import NotJSONError

CLIENT_PREFIX = "/_matrix/client/v3"
# What a test accepts: a status, (status, errcode), or None for "anything but a 5xx".
Expected = int | tuple[int, str] | None
Params = Mapping[str, Any]

# Longer than any long poll a test makes, and any join on a busy machine: a hang is a failure, not a wait.
_GENEROUS = aiohttp.ClientTimeout(total=150)
_MAX_SHOWN = 2_000


class ContractError(AssertionError):
    """A response that breaks the contract or is not the one the test expected; the message tells the exchange."""


@dataclass(frozen=True)
class Answer:
    """One response as the test may look at it: status, headers (lower-case names), bytes, and values where it is JSON."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any

    @property
    def content(self) -> Any:
        """The parsed JSON; the bytes of anything else."""
        return self.body if self.json is None else self.json


class CheckedClient:
    """Speaks HTTP to one server and holds every answer against the contract at once.

    Raises ContractError with a readable account of the exchange when an answer breaks the contract (schema or prose
    rules) or is not the expected one. `checked` counts the answers looked at. `contract=False` is for the answers of a
    server that others wrote.
    """

    def __init__(self, base_url: str, *, contract: bool = True) -> None:
        self.base_url = base_url.rstrip("/")
        self.contract = contract
        self.checked = 0
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections; the client can be used again afterwards."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def exchange(
        self,
        method: str,
        path: str,
        *args: str,
        json: Any = None,
        data: bytes | None = None,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        expect: Expected = 200,
    ) -> Answer:
        """One request and its checked answer, with status and headers; see `request` for the body alone."""
        url = yarl.URL(self.base_url + fill(path, args) + query_string(params), encoded=True)
        sent = dict(headers or {})
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {token}")
        body = data
        if json is not None:
            body = stdlib_json.dumps(json, ensure_ascii=False).encode("utf-8", "surrogatepass")
            sent.setdefault("Content-Type", "application/json")
        async with self._connection().request(
            method, url, data=body, headers=sent, allow_redirects=False
        ) as response:
            raw = await response.read()
            found = {name.lower(): value for name, value in response.headers.items()}
            seen = Exchange(method, url.raw_path, response.status, raw, dict(url.query), found)
        self.checked += 1
        problems = (problems_of(seen) if self.contract else []) + unexpected(seen, expect)
        if problems:
            raise ContractError(tell(seen, url, body, problems))
        return Answer(seen.status, found, raw, _parse(seen))

    async def request(self, method: str, path: str, *args: str, **options: Any) -> Any:
        """One request; returns the parsed JSON of the checked answer (bytes when it is not JSON)."""
        return (await self.exchange(method, path, *args, **options)).content

    async def get(self, path: str, *args: str, **options: Any) -> Any:
        """`request("GET", ...)`."""
        return await self.request("GET", path, *args, **options)

    async def post(self, path: str, *args: str, **options: Any) -> Any:
        """`request("POST", ...)`; without `json` or `data` the body is `{}`."""
        return await self.request("POST", path, *args, **_with_body(options))

    async def put(self, path: str, *args: str, **options: Any) -> Any:
        """`request("PUT", ...)`; without `json` or `data` the body is `{}`."""
        return await self.request("PUT", path, *args, **_with_body(options))

    async def delete(self, path: str, *args: str, **options: Any) -> Any:
        """`request("DELETE", ...)`."""
        return await self.request("DELETE", path, *args, **options)

    def _connection(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=_GENEROUS,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
            )
        return self._session


def fill(path: str, args: Iterable[str]) -> str:
    """The path with its prefix and each `{}` replaced by one percent-encoded argument."""
    values = list(args)
    if path.count("{}") != len(values):
        raise TypeError(f"{path} takes {path.count('{}')} arguments, {len(values)} given")
    filled = path.format(*(quote(value, safe="") for value in values)) if values else path
    return filled if filled.startswith(("/_", "/.")) else CLIENT_PREFIX + filled


def query_string(params: Params | None) -> str:
    """`?a=b` of the parameters: None is left out, a list repeats its name, an object travels as JSON."""
    pairs = [
        f"{quote(name, safe='')}={quote(_as_text(item), safe='')}"
        for name, value in (params or {}).items()
        for item in (value if isinstance(value, list | tuple) else [value])
        if item is not None
    ]
    return "?" + "&".join(pairs) if pairs else ""


def unexpected(seen: Exchange, expect: Expected) -> list[str]:
    """What differs from what the test expected, in words."""
    if expect is None:
        return [f"no test expects a {seen.status}"] if seen.status >= 500 else []
    status, errcode = expect if isinstance(expect, tuple) else (expect, None)
    if seen.status != status:
        return [f"expected {status}{' ' + errcode if errcode else ''}, got {seen.status}"]
    if errcode is None:
        return []
    parsed = _parse(seen)
    given = parsed.get("errcode") if isinstance(parsed, dict) else None
    return [] if given == errcode else [f"expected {errcode}, got {given}"]


def tell(seen: Exchange, url: yarl.URL, body: bytes | None, problems: Iterable[str]) -> str:
    """The exchange as a person reads it: what was asked, what was answered, what is wrong with that."""
    asked = f"{seen.method} {yarl.URL(url).path_qs}"
    lines = [asked, *(["  > " + _shorten(body)] if body else [])]
    lines += [f"  < {seen.status} {seen.content_type}", "  < " + _shorten(seen.body)]
    return "\n".join([*lines, *(f"  ! {problem}" for problem in problems)])


def _with_body(options: dict[str, Any]) -> dict[str, Any]:
    return options if "json" in options or "data" in options else {**options, "json": {}}


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return stdlib_json.dumps(value) if isinstance(value, dict) else str(value)


def _parse(seen: Exchange) -> Any:
    if seen.content_type != "application/json":
        return None
    try:
        return seen.json()
    except NotJSONError:
        return None


def _shorten(body: bytes) -> str:
    text = body[: _MAX_SHOWN + 1].decode("utf-8", "replace")
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + f"… ({len(body)} bytes)"
