"""Whose signatures an event must carry: the part of the rules that needs keys is told here and done where keys are known.

spec: server-server-api/#validating-hashes-and-signatures-on-received-events, rooms/v3/#authorisation-rules, rooms/v8/
"""

from __future__ import annotations

from homeserver.events.event import Event
from homeserver.matrix.ids import ServerName, domain_of


def required_signers(event: Event) -> frozenset[ServerName]:
    """The servers without whose valid signature the event must not be accepted.

    A third-party invite may be sent by another server than its sender's; it proves itself by rule 5.4.1 instead.
    """
    signers: set[ServerName] = set()
    if not _is_third_party_invite(event):
        signers.add(domain_of(event.sender))
    # spec: rooms/v3/#authorisation-rules: only versions 1 and 2 name a server in the event ID (EVT-23)
    if not event.room_version.hash_ids:
        signers.add(domain_of(event.event_id))
    authoriser = authorising_server(event)
    if authoriser is not None:
        signers.add(authoriser)
    return frozenset(signers)


def authorising_server(event: Event) -> ServerName | None:
    """The server of `join_authorised_via_users_server`, where the version knows it and a member event names one."""
    if not event.room_version.restricted_join or event.type != "m.room.member":
        return None
    if "join_authorised_via_users_server" not in event.content:
        return None
    user = event.content["join_authorised_via_users_server"]
    return domain_of(user) if isinstance(user, str) else ServerName("")


def is_signed_by(event: Event, server: ServerName) -> bool:
    """Whether a signature of the server is there; that it is valid was checked when the event came in."""
    signatures = event.fields.get("signatures")
    return isinstance(signatures, dict) and bool(signatures.get(server))


def _is_third_party_invite(event: Event) -> bool:
    return event.membership == "invite" and "third_party_invite" in event.content
