"""Requests between servers, signed: what the signature covers, the header that carries it, and reading that of others.

Owns the format alone; who may ask is judged in `federation.keys.requests`.

spec: server-server-api/#request-authentication (CHECKLIST FED-01, FED-02); RFC 9110, 11.4
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import msgspec

from homeserver.matrix import canonical_json
from homeserver.matrix.errors import Unauthorized
from homeserver.matrix.ids import ServerName, is_server_name
from homeserver.matrix.signing import SigningKey

SCHEME: Final = "x-matrix"
MAX_HEADER: Final = 4096
"""Characters of one header: names of 255 characters, a signature of 86."""
MAX_HEADERS: Final = 5
"""Signatures of one request that are looked at: a server that changes its key may send two."""
MAX_PARAMETERS: Final = 32

# token and quoted-string: RFC 9110, 5.6.2 and 5.6.4. Colons, and what else Base64 and IPv6 addresses have, stand unquoted in
# what older servers send.
_PARAMETER: Final = re.compile(
    r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([!#$%&'*+.^_`|~0-9A-Za-z:/=\[\]-]+))[ \t]*(?:,|\Z)"""
)
_EMPTY: Final = re.compile(r"[ \t]*(?:,[ \t]*)*")
_ESCAPED: Final = re.compile(r"\\(.)")
_KNOWN: Final = frozenset({"origin", "destination", "key", "sig"})


class Credentials(NamedTuple):
    """One `Authorization: X-Matrix` header."""

    origin: ServerName
    destination: ServerName | None
    """None: older servers do not say."""
    key_id: str
    signature: str
    """Unpadded Base64; not looked at yet."""


def parse(header: str) -> Credentials:
    """Read a header. Names of parameters have no case, their order is free, unknown ones are passed over.

    Raises `Unauthorized`: another scheme, not of the grammar, a parameter twice, one missing, or an origin that is no name.
    """
    scheme, _, text = header.partition(" ")
    if scheme.lower() != SCHEME:
        raise Unauthorized("Authorization: X-Matrix is expected")
    if len(text) > MAX_HEADER:
        raise Unauthorized("Authorization: too long")
    found = _parameters(text)
    try:
        origin, key_id, signature = found["origin"], found["key"], found["sig"]
    except KeyError as error:
        raise Unauthorized(f"Authorization: no {error.args[0]}") from None
    if not is_server_name(origin):
        raise Unauthorized("Authorization: origin is not a server name")
    destination = found.get("destination")
    return Credentials(
        ServerName(origin), None if destination is None else ServerName(destination), key_id, signature
    )


def header(credentials: Credentials) -> str:
    """The value of `Authorization`, in the form that all servers read: quoted, in the order of the specification."""
    origin, destination, key_id, signature = credentials
    to = "" if destination is None else f',destination="{_quoted(destination)}"'
    return f'X-Matrix origin="{_quoted(origin)}"{to},key="{_quoted(key_id)}",sig="{_quoted(signature)}"'


def signed_bytes(method: str, uri: str, origin: str, destination: str, content: bytes | None) -> bytes:
    """What a request's signature signs. `content`: canonical JSON of the body, None where there is none."""
    signed: dict[str, Any] = {"method": method, "uri": uri, "origin": origin, "destination": destination}
    if content is not None:
        signed["content"] = msgspec.Raw(content)
    return canonical_json.encode_strict(signed)


class Signer(NamedTuple):
    """Signs requests of ours."""

    server_name: ServerName
    key: SigningKey

    def authorization(self, method: str, uri: str, destination: ServerName, content: bytes | None) -> str:
        """The header for a request. `uri`: path and query as they are sent; `content` as for `signed_bytes`."""
        signed = signed_bytes(method, uri, self.server_name, destination, content)
        return header(
            Credentials(self.server_name, destination, self.key.key_id, self.key.signature_of(signed))
        )


def _parameters(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    place = _skip(text, 0)
    count = 0
    while place < len(text):
        match = _PARAMETER.match(text, place)
        count += 1
        if match is None or count > MAX_PARAMETERS:
            raise Unauthorized("Authorization: not of the form name=value, …")
        name, quoted, plain = match[1].lower(), match[2], match[3]
        if name in found:
            raise Unauthorized("Authorization: a parameter is there twice")
        if name in _KNOWN:
            found[name] = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
        place = _skip(text, match.end())
    return found


def _skip(text: str, place: int) -> int:
    """Past white space and empty elements of the list (RFC 9110, 5.6.1)."""
    match = _EMPTY.match(text, place)
    return match.end() if match is not None else place


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
