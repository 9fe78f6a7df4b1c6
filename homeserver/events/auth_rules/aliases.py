"""The rule of versions 1-5 for m.room.aliases: a server speaks for its own aliases, joined or not.

From version 6 on the event type means nothing to the rules. spec: rooms/v1/#authorisation-rules (4), rooms/v6/
"""

from __future__ import annotations

from homeserver.events.auth_rules.rejected import Malformed, Rejected
from homeserver.events.event import Event
from homeserver.matrix.ids import domain_of


def check_aliases(event: Event) -> None:
    """Raise `Rejected` unless the sender's server publishes under its own name."""
    # v1 4.1: it is a state event.
    if event.state_key is None:
        raise Malformed("v1 4.1", "m.room.aliases has no state_key")
    # v1 4.2: its state key is the sender's own domain.
    if event.state_key != domain_of(event.sender):
        raise Rejected("v1 4.2", "m.room.aliases names another domain than its sender's")
    # v1 4.3: otherwise, allow.
