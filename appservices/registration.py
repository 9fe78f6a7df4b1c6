"""Reading registrations: YAML as bridges write it, all mistakes at once, each with its place.

What is not known is passed over: bridges write what other servers want to know, too.

spec: application-service-api/#registration (CHECKLIST AS-01)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from appservices.types import Namespace, Service, sender_of
from homeserver.config import ConfigError, checks
from homeserver.matrix.ids import ServerName, is_user_id
from homeserver.sessions.tokens import MAX_TOKEN, digest_of

MAX_FILE: Final = 2**20
MAX_NAMESPACES: Final = 1_000
MAX_PATTERN: Final = 1_000
MAX_PROTOCOLS: Final = 100
MAX_ID: Final = 255
Mistakes = list[tuple[str, str]]
_EPHEMERAL: Final = ("receive_ephemeral", "push_ephemeral", "de.sorunome.msc2409.push_ephemeral")
_ENCRYPTION: Final = ("org.matrix.msc3202",)
KEPT: Final = (
    *("id", "url", "hs_token", "sender_localpart", "namespaces", "rate_limited", "protocols"),
    *(*_EPHEMERAL, *_ENCRYPTION),
)
"""What of a registration the database keeps; of the `as_token` it keeps the hash."""


def read_yaml(text: str, origin: str) -> dict[str, Any]:
    """The mapping in a registration file. Raises `ConfigError` with line and column of what is no YAML."""
    if len(text) > MAX_FILE:
        raise ConfigError(origin, [("", f"longer than {MAX_FILE} characters")])
    try:
        raw = yaml.load(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(origin, [("", f"it is not YAML: {' '.join(str(error).split())}")]) from None
    if not isinstance(raw, dict):
        raise ConfigError(origin, [("", "a mapping is expected: id: …")])
    return raw


def service_of(
    raw: Mapping[str, Any], server_name: ServerName, origin: str, digest: bytes | None = None
) -> Service:
    """A registration as a service. `digest`: of its `as_token`, where that is not in it.

    Raises `ConfigError` with every mistake: ("namespaces.users.0.regex", sentence).
    """
    mistakes: Mistakes = []
    identifier = _text(raw, "id", mistakes, MAX_ID)
    if digest is None:
        digest = digest_of(_token(raw, "as_token", mistakes))
    localpart = _text(raw, "sender_localpart", mistakes, MAX_ID)
    sender = sender_of(localpart, server_name)
    if localpart and not is_user_id(sender):
        mistakes.append(("sender_localpart", f"{sender} is not a user ID"))
    namespaces = _mapping(raw.get("namespaces"), "namespaces", mistakes)
    users, aliases, rooms = (
        _namespaces(namespaces, kind, mistakes) for kind in ("users", "aliases", "rooms")
    )
    service = Service(
        id=identifier,
        url=_url(raw, mistakes),
        token_digest=digest,
        hs_token=_token(raw, "hs_token", mistakes),
        sender=sender,
        users=users,
        aliases=aliases,
        rooms=rooms,
        protocols=_protocols(raw, mistakes),
        limited=_flag(raw, ("rate_limited",), mistakes, otherwise=True),
        ephemeral=_flag(raw, _EPHEMERAL, mistakes),
        encryption=_flag(raw, _ENCRYPTION, mistakes),
        origin=origin,
    )
    if mistakes:
        raise ConfigError(origin, mistakes)
    return service


def require_distinct(services: Sequence[Service]) -> None:
    """Raises `ConfigError` for two with the same id, token or sender (CHECKLIST AS-01)."""
    values: Mapping[str, Callable[[Service], object]] = {
        "id": lambda service: service.id,
        "as_token": lambda service: service.token_digest,
        "sender_localpart": lambda service: service.sender,
    }
    for name, value_of in values.items():
        seen: dict[object, Service] = {}
        for service in services:
            other = seen.setdefault(value_of(service), service)
            if other is not service:
                raise ConfigError(
                    service.origin,
                    [(name, f"another application service has it: {other.id} in {other.origin}")],
                )


def _text(raw: Mapping[str, Any], key: str, mistakes: Mistakes, most: int) -> str:
    value = raw.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # an id of digits alone is a number to YAML
    if not isinstance(value, str) or not value or len(value) > most or not value.isprintable():
        mistakes.append(
            (key, "is missing" if value is None else f"1 to {most} printable characters are expected")
        )
        return ""
    return value


def _token(raw: Mapping[str, Any], key: str, mistakes: Mistakes) -> str:
    token = _text(raw, key, mistakes, MAX_TOKEN)
    if token and (not token.isascii() or " " in token):
        mistakes.append((key, "a token has ASCII characters without blanks: it travels in a header"))
    return token


def _url(raw: Mapping[str, Any], mistakes: Mistakes) -> str | None:
    if "url" not in raw:
        mistakes.append(("url", "is missing; null if the service wants to hear nothing"))
        return None
    url = raw["url"]
    if url is None or url == "":
        return None
    if isinstance(url, str) and len(url) <= 2_000:
        try:
            parts = urlsplit(url)
            if (
                parts.scheme in {"http", "https"}
                and parts.hostname
                and not parts.username
                and not parts.query
            ):
                return url.rstrip("/")
        except ValueError:
            pass
    mistakes.append(("url", "an address is expected, such as http://127.0.0.1:29317"))
    return None


def _mapping(value: object, where: str, mistakes: Mistakes) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    mistakes.append(
        (where, "is missing" if value is None else "a mapping of users, aliases and rooms is expected")
    )
    return {}


def _namespaces(raw: Mapping[str, Any], kind: str, mistakes: Mistakes) -> tuple[Namespace, ...]:
    given = raw.get(kind)
    where = f"namespaces.{kind}"
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) > MAX_NAMESPACES:
        mistakes.append((where, f"a list of at most {MAX_NAMESPACES} namespaces is expected"))
        return ()
    named = [_namespace(each, f"{where}.{place}", mistakes) for place, each in enumerate(given)]
    found = tuple(each for each in named if each is not None)
    try:
        checks.together(tuple(each.pattern.pattern for each in found))
    except ValueError as error:
        mistakes.append((where, str(error)))
    return found


def _namespace(raw: object, where: str, mistakes: Mistakes) -> Namespace | None:
    if not isinstance(raw, dict):
        mistakes.append((where, "a mapping of regex and exclusive is expected"))
        return None
    pattern, exclusive = raw.get("regex"), raw.get("exclusive")
    if not isinstance(exclusive, bool):
        mistakes.append((f"{where}.exclusive", "true or false is expected"))
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
        mistakes.append(
            (f"{where}.regex", f"a regular expression of at most {MAX_PATTERN} characters is expected")
        )
        return None
    try:
        checks.regular_expression(pattern)
    except ValueError as error:
        mistakes.append((f"{where}.regex", str(error)))
        return None
    return Namespace(re.compile(pattern), exclusive is True)


def _protocols(raw: Mapping[str, Any], mistakes: Mistakes) -> tuple[str, ...]:
    given = raw.get("protocols")
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) > MAX_PROTOCOLS:
        mistakes.append(("protocols", f"a list of at most {MAX_PROTOCOLS} protocols is expected"))
        return ()
    for place, each in enumerate(given):
        if not isinstance(each, str) or not 0 < len(each) <= MAX_ID:
            mistakes.append((f"protocols.{place}", "the name of a protocol is expected"))
    return tuple(dict.fromkeys(each for each in given if isinstance(each, str)))


def _flag(
    raw: Mapping[str, Any], keys: Sequence[str], mistakes: Mistakes, *, otherwise: bool = False
) -> bool:
    """The first of these that is said, under whichever of its names."""
    for key in keys:
        value = raw.get(key)
        if isinstance(value, bool):
            return value
        if value is not None:
            mistakes.append((key, "true or false is expected"))
    return otherwise
