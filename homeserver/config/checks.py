"""What single values of the configuration have to look like: checked here, so that no server starts and then finds out.

Each returns the value, or raises `ValueError` with a sentence for the administrator.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from re._parser import SubPattern  # type: ignore[import-not-found]  # Python's own, which has no stubs
from re._parser import parse as _parse
from typing import Any, TypeVar
from urllib.parse import urlsplit

from homeserver.matrix.ids import is_room_alias, is_user_id

_DNS_NAME = re.compile(r"(?!-)[0-9A-Za-z-]{1,63}(?:\.[0-9A-Za-z-]{1,63})*")
_KEY_ID = re.compile(r"ed25519:[0-9A-Za-z_]+")
_UNPADDED = re.compile(r"[0-9A-Za-z+/_-]+")
_MANY = 32
"""Repetitions from which it need not be worked out how many ways there are."""
_LONGEST = 255
"""Characters of a name (`matrix.ids.MAX_ID_BYTES`)."""
_MOST_WAYS = 4 * _LONGEST**2
"""Two repetitions of any number of characters, and a few choices: some milliseconds at worst."""
_MOST_WAYS_TOGETHER = 4 * _MOST_WAYS
"""Of expressions that are tried on the same name: a few thousand with one repetition each."""
_MAIL = re.compile(r"[^@\s]+@[^@\s]+")

_ById = TypeVar("_ById")


def regular_expression(pattern: str) -> str:
    """One that strangers' names are tried on: it may not take for ever, whatever the name."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if _ways(_parse(pattern).data, last=True) > _MOST_WAYS:
        raise ValueError(
            "too many ways to read a name: a repetition inside a repetition, such as (a+)+, or more than two repetitions "
            "one after the other; some names would take for ever to be compared with it"
        )
    return pattern


def together(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """All of them are tried on a name: that may not take for ever either. `patterns`: each was taken by `regular_expression`."""
    if sum(_ways(_parse(pattern).data, last=True) for pattern in patterns) > _MOST_WAYS_TOGETHER:
        raise ValueError(
            "too many ways to read a name: these expressions together have too many repetitions, and each name is "
            "compared with all of them; write fewer, or with fewer repetitions"
        )
    return patterns


def _ways(sequence: Sequence[tuple[Any, Any]], *, last: bool = False) -> int:
    """In how many ways a name of 255 characters can be tried on a parsed expression before it does not match, at most.

    `last`: nothing comes after it, so the repetition at its end is never tried again with fewer. Counts no further than
    just above `_MOST_WAYS`.
    """
    ways = 1
    for place, (operation, argument) in enumerate(sequence, 1):
        ways *= _ways_of(str(operation), argument, last=last and place == len(sequence))
        if ways > _MOST_WAYS:
            return _MOST_WAYS + 1
    return ways


def _plain(sequence: Sequence[tuple[Any, Any]]) -> bool:
    """Whether a repeated part can be read in one way alone: it begins with a character that nothing else in it repeats, or
    consists of, as in (ab{1,3})+.
    """
    while len(sequence) == 1 and str(sequence[0][0]) == "SUBPATTERN":
        sequence = sequence[0][1][-1].data
    kinds = [(str(operation), argument) for operation, argument in sequence]
    if not kinds or kinds[0][0] != "LITERAL":
        return False
    rest = [
        argument[2].data if kind.endswith("_REPEAT") else [(kind, argument)] for kind, argument in kinds[1:]
    ]
    return all(len(each) == 1 and str(each[0][0]) == "LITERAL" and each[0][1] != kinds[0][1] for each in rest)


def _ways_of(operation: str, argument: Any, *, last: bool) -> int:
    if operation in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
        least, most, repeated = int(argument[0]), min(int(argument[1]), _LONGEST), argument[2]
        inner = _ways(repeated.data)
        if inner > 1 and most > 1 and not _plain(repeated.data):
            return _MOST_WAYS + 1 if most > _MANY else min(inner**most, _MOST_WAYS + 1) * (most - least + 1)
        return 1 if last and inner == 1 else inner * max(1, most - least + 1)
    if operation == "BRANCH":
        branches = [branch.data for branch in argument[1]]
        first = [branch[0] if branch else None for branch in branches]
        apart = all(each is not None and str(each[0]) == "LITERAL" for each in first) and len(
            set(first)
        ) == len(first)
        counts = [_ways(branch, last=last) for branch in branches]
        return max(counts) if apart else sum(counts)
    if isinstance(argument, SubPattern):
        return _ways(argument.data)
    inside = (
        [each for each in argument if isinstance(each, SubPattern)] if isinstance(argument, tuple) else []
    )
    return max([1, *(_ways(each.data, last=last) for each in inside)])


def room_alias(alias: str) -> str:
    if not is_room_alias(alias):
        raise ValueError("an alias is expected, such as #lobby:example.com")
    return alias


def domain(name: str) -> str:
    if not _DNS_NAME.fullmatch(name):
        raise ValueError("a domain is expected, such as example.com")
    return name


def contact(address: str) -> str:
    if not is_user_id(address) and not _MAIL.fullmatch(address.removeprefix("mailto:")):
        raise ValueError(
            "an e-mail address or a user id is expected: mailto:admin@example.com, @admin:example.com"
        )
    return address


def host_and_port(address: str) -> str:
    """spec: server-server-api/#getwell-knownmatrixserver `m.server`."""
    host, _, port = address.rpartition(":") if re.search(r":\d+$", address) else (address, "", "8448")
    if not (_is_host(host) and 0 < int(port) < 65536):
        raise ValueError("a host is expected, with or without a port: matrix.example.com:443")
    return address


def proxy(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError("the address of an HTTP proxy is expected: http://proxy.example.com:3128")
    return url


def key_id(name: str) -> str:
    if not _KEY_ID.fullmatch(name):
        raise ValueError("the id of a key is expected: ed25519:abc")
    return name


def public_key(key: str) -> str:
    try:
        raw = base64.b64decode(key + "=" * (-len(key) % 4), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise ValueError("an ed25519 key is expected: 43 characters of unpadded base64")
    return key


def by_key_id(keys: Mapping[str, _ById]) -> Mapping[str, _ById]:
    for name in keys:
        try:
            key_id(name)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return keys


def authorities(path: Path) -> Path:
    """A file with certificates, as OpenSSL reads it."""
    import ssl  # here: most configurations name none

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise ValueError(f"there is no certificate in {path}: PEM is expected") from None
    return path


def private_key_of(certificate: Path, key: Path) -> None:
    """Whether a server can show the certificate with this key."""
    import ssl

    def no_passphrase() -> str:
        raise ValueError(f"{key} has a passphrase, which nobody could type when the server starts")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, no_passphrase)
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        raise ValueError(
            f"{key} is the key of another certificate" if mismatch else f"there is no private key in {key}"
        ) from None


def _is_host(host: str) -> bool:
    if _DNS_NAME.fullmatch(host):
        return True
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def policy_server_keys(keys: dict[str, str]) -> dict[str, str]:
    """spec: client-server-api/#getwell-knownmatrixpolicy_server `public_keys`."""
    if keys and "ed25519" not in keys:
        raise ValueError("a key for ed25519 is expected among them")
    for algorithm, key in keys.items():
        if not _UNPADDED.fullmatch(key) or (algorithm == "ed25519" and len(key) != 43):
            raise ValueError(f"the key for {algorithm} is expected as unpadded base64")
    return keys
