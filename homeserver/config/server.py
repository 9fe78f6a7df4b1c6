"""Who this server is."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from homeserver.config import checks
from homeserver.config.base import AnyPath, Duration, Section
from homeserver.matrix.ids import is_user_id

_DNS_NAME = re.compile(r"[0-9A-Za-z.-]{1,255}")


def check_server_name(name: str) -> str:
    """spec: appendices/#server-name."""
    host, port = _split(name)
    if port is not None and not (
        port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536
    ):
        raise ValueError("after the colon a port number from 1 to 65535 is expected")
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]") if host.endswith("]") else "")
        except ValueError:
            raise ValueError("between [ and ] an IPv6 address is expected") from None
    elif not _DNS_NAME.fullmatch(host):
        raise ValueError(
            "a DNS name or an IP address is expected, with an optional port: example.com or example.com:8448"
        )
    if len(name) > 230:
        raise ValueError("too long: 230 characters at most, so that identifiers fit into 255")
    return name


def check_base_url(url: str) -> str:
    """An absolute http(s) URL; ends without a slash."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("an absolute URL is expected, such as https://matrix.example.com")
    return url.rstrip("/")


def _split(name: str) -> tuple[str, str | None]:
    if name.startswith("["):
        host, bracket, rest = name.partition("]")
        return host + bracket, rest[1:] if rest.startswith(":") else (rest or None)
    host, colon, port = name.partition(":")
    return host, port if colon else None


BaseUrl = Annotated[str, AfterValidator(check_base_url)]


class ServerSection(Section):
    """Who this server is."""

    name: Annotated[str, AfterValidator(check_server_name), Field(examples=["example.com"])]
    """The part after the colon in user ids (@alice:example.com). It can never be changed. With a port
    (example.com:8448) other servers connect to that port; without one they ask /.well-known/matrix/server or DNS."""

    public_baseurl: BaseUrl | None = Field(default=None, examples=["https://matrix.example.com"])
    """The address clients use. It is published under /.well-known/matrix/client and used in links."""

    federation_address: Annotated[str, AfterValidator(checks.host_and_port)] | None = Field(
        default=None, examples=["matrix.example.com:443"]
    )
    """Where other servers find this one, published under /.well-known/matrix/server; host or host:port."""

    data_dir: AnyPath = Field(default=Path("data"), validate_default=True)
    """Everything the server writes: the embedded database, uploads, keys. A relative path starts at this file."""

    signing_key_path: AnyPath | None = None
    """The server's signing key. Default: signing.key in data_dir. Whoever has it can speak for this server."""

    processes: int = Field(default=1, ge=1, le=64)
    """How many processes serve. One uses one core; --processes says otherwise for one run."""

    spread: Literal["as_needed", "evenly"] = "as_needed"
    """How work is spread over the processes: as_needed lets as few of them serve as are enough, which costs the least and moves
    open connections to others when they are busy; evenly leaves every connection at the process that the kernel gives it."""

    old_signing_keys: Annotated[dict[str, OldKey], AfterValidator(checks.by_key_id)] = Field(
        default_factory=dict
    )
    """Keys used earlier, by their id (ed25519:abc), so that events signed with them can still be verified."""

    key_validity: Duration = Field(default=7 * 86400.0, ge=3600)
    """For how long other servers may keep our published key before asking again."""

    admin_contact: Annotated[str, AfterValidator(checks.contact)] | None = Field(
        default=None, examples=["mailto:admin@example.com"]
    )
    """Shown to users whom a limit stops, and published under /.well-known/matrix/support."""

    support_page: BaseUrl | None = None
    """A web page for help, published under /.well-known/matrix/support."""

    policy_server_keys: Annotated[dict[str, str], AfterValidator(checks.policy_server_keys)] = Field(
        default_factory=dict, examples=[{"ed25519": "6yhHGKhCiXTSEN2ksjV7kXN6rBQZ3XbM7LlC6NSsRgs"}]
    )
    """If a policy server goes by the same name: its public keys by algorithm, published under /.well-known/matrix/policy_server
    for those who set up m.room.policy in a room."""

    @property
    def contact_uri(self) -> str | None:
        """`admin_contact` as an address that clients can open."""
        contact = self.admin_contact
        if contact is None or contact.startswith("mailto:"):
            return contact
        return f"https://matrix.to/#/{contact}" if is_user_id(contact) else f"mailto:{contact}"

    @property
    def signing_key(self) -> Path:
        """The signing key's file."""
        return self.signing_key_path or self.data_dir / "signing.key"


class OldKey(Section):
    """A key that no longer signs."""

    key: Annotated[str, AfterValidator(checks.public_key)]
    """The public key, unpadded base64."""

    expired_ts: int = Field(ge=0)
    """When it ceased to be used, in milliseconds since 1970."""


ServerSection.model_rebuild()
