"""Signatures of this server on events that others have made: invites of our users, joins that ours vouch for.

spec: server-server-api/#signing-events
"""

from __future__ import annotations

from homeserver.events.event import Event
from homeserver.events.hashing import signed_bytes
from homeserver.events.parse import parse_event
from homeserver.graph.write.append import Identity


def with_signature(event: Event, identity: Identity) -> Event:
    """The event with the signature of this server beside the others."""
    key, fields = identity.key, event.fields
    signatures = {server: dict(by_key) for server, by_key in fields["signatures"].items()}
    signed = signed_bytes(fields, event.room_version)
    signatures.setdefault(identity.server_name, {})[key.key_id] = key.signature_of(signed)
    return parse_event({**fields, "signatures": signatures}, event.room_version, bounded=False)
