"""What single values of the configuration have to look like: checked here, so that no server starts and then finds out.

Each returns the value, or raises `ValueError` with a sentence for the administrator.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from re._parser import SubPattern  # type: ignore[import-not-found]  # Python's own, which has no stubs
from re._parser import parse as _parse
from typing import Any, TypeVar
from urllib.parse import urlsplit

from homeserver.matrix.ids import is_room_alias, is_user_id

_DNS_NAME = re.compile(r"(?!-)[0-9A-Za-z-]{1,63}(?:\.[0-9A-Za-z-]{1,63})*")
_KEY_ID = re.compile(r"ed25519:[0-9A-Za-z_]+")
_MANY = 32
"""Repetitions from which a number of them counts as any number."""
_MAIL = re.compile(r"[^@\s]+@[^@\s]+")

_ById = TypeVar("_ById")


def regular_expression(pattern: str) -> str:
    """One that strangers' names are tried on: it may not take for ever, whatever the name."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if _repeats_repeats(_parse(pattern)):
        raise ValueError(
            "a repetition inside a repetition, such as (a+)+: some names would take for ever to be compared with it"
        )
    return pattern


def _repeats_repeats(tree: Any, *, inside: bool = False) -> bool:
    """Whether what may come any number of times holds something that may: the number of ways to read a text then grows with
    its powers.
    """
    if isinstance(tree, SubPattern):
        tree = tree.data
    if isinstance(tree, tuple) and len(tree) == 3 and isinstance(tree[2], SubPattern):
        _, at_most, of_what = tree
        many = int(at_most) > _MANY
        return (inside and many) or _repeats_repeats(of_what, inside=inside or many)
    return isinstance(tree, tuple | list) and any(_repeats_repeats(each, inside=inside) for each in tree)


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
