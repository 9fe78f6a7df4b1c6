"""Links that open a client with this server filled in, where its makers have provided for that."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote


class ClientLink(NamedTuple):
    """A client for people to choose. `knows_server`: the link fills the server in."""

    name: str
    url: str
    knows_server: bool


def element_x(server_name: str) -> str:
    """Opens Element X, or says where to get it. Since 25.05 (iOS) and 25.06 (Android)."""
    return f"https://mobile.element.io/element/?account_provider={quote(server_name, safe='')}"


def others(server_name: str, base_url: str | None) -> list[ClientLink]:
    """Further clients, the best known first. `base_url`: where clients find the server."""
    found = [ClientLink("Element Web", "https://app.element.io/", knows_server=False)]
    # Cinny takes the address from a path segment, and cuts off a port there: not offered for servers that are found by port.
    if ":" not in server_name:
        found.append(
            ClientLink("Cinny", f"https://app.cinny.in/login/{quote(server_name)}/", knows_server=True)
        )
    found.append(ClientLink("FluffyChat", "https://fluffychat.im/", knows_server=False))
    if base_url:
        classic = f"https://mobile.element.io/?hs_url={quote(base_url, safe='')}"
        found.append(ClientLink("Element Classic", classic, knows_server=True))
    return found
