"""Third-party invites: who may issue one (rule 7) and what proves that one is being redeemed (rule 5.4.1).

Somebody without a Matrix ID is invited by leaving a token and public keys in the room (m.room.third_party_invite). Whoever
holds the matching private key signs "this Matrix ID redeems this token", and the invite that follows carries that signature.

spec: client-server-api/#third-party-invites, rooms/v1/#authorisation-rules
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

from homeserver.events.auth_rules.power import State, can_act
from homeserver.events.auth_rules.rejected import Rejected
from homeserver.events.event import Event
from homeserver.events.room_version import RoomVersion
from homeserver.matrix import base64
from homeserver.matrix.errors import InvalidSignature
from homeserver.matrix.signing import verify_json

_MAX_KEYS: Final = 32
"""Public keys of one m.room.third_party_invite that are tried; real ones list two."""
_MAX_SIGNATURES: Final = 32


def check_issue(event: Event, state: State, version: RoomVersion) -> None:
    """Rule 7 for m.room.third_party_invite events; membership was checked by rule 6."""
    # 7.1: allow if and only if the sender may invite.
    if not can_act(state, event.sender, "invite", version):
        raise Rejected("7.1", "the sender's level is below the invite level")


def check_redemption(event: Event, state: State, target_membership: str) -> None:
    """Rule 5.4.1 for m.room.member invites whose content has `third_party_invite`; returns if they are allowed."""
    # 5.4.1.1: a banned target cannot be invited this way either.
    if target_membership == "ban":
        raise Rejected("5.4.1.1", "the invited user is banned")
    # 5.4.1.2: what the identity server signed is there.
    invite = event.content["third_party_invite"]
    signed = invite.get("signed") if isinstance(invite, Mapping) else None
    if not isinstance(signed, Mapping):
        raise Rejected("5.4.1.2", "third_party_invite has nothing signed")
    # 5.4.1.3: it names a user and a token.
    if "mxid" not in signed or "token" not in signed:
        raise Rejected("5.4.1.3", "what was signed lacks mxid or token")
    # 5.4.1.4: the user is the one invited.
    if signed["mxid"] != event.state_key:
        raise Rejected("5.4.1.4", "what was signed names another user")
    # 5.4.1.5: the token is one this room has issued.
    token = signed["token"]
    issued = state.get(("m.room.third_party_invite", token)) if isinstance(token, str) else None
    if issued is None:
        raise Rejected("5.4.1.5", "the room has no third-party invite with this token")
    # 5.4.1.6: by the same sender.
    if issued.sender != event.sender:
        raise Rejected("5.4.1.6", "the third-party invite was issued by somebody else")
    # 5.4.1.7: any signature by any of its keys allows.
    if any(True for _ in keys_that_fit(issued.content, signed)):
        return
    # 5.4.1.8: otherwise, reject.
    raise Rejected("5.4.1.8", "no signature fits a key of the third-party invite")


class IssuedKey(NamedTuple):
    """A public key of an m.room.third_party_invite."""

    text: str
    """As the event has it."""
    raw: bytes
    validity_url: str | None
    """Where it is told whether it is revoked. spec: client-server-api/#mroomthird_party_invite `key_validity_url`"""


def keys_that_fit(issued: Mapping[str, Any], signed: Mapping[str, Any]) -> Iterator[IssuedKey]:
    """The keys of an m.room.third_party_invite (its content) that have signed."""
    return (key for key in _public_keys(issued) if _is_signed_with(signed, key.raw))


def _public_keys(content: Mapping[str, Any]) -> Iterator[IssuedKey]:
    """The keys of the issued invite, decoded; what is not Base64 is passed over."""
    listed = content.get("public_keys")
    entries = listed[:_MAX_KEYS] if isinstance(listed, list) else []
    for entry in (content, *(each for each in entries if isinstance(each, Mapping))):
        key, url = entry.get("public_key"), entry.get("key_validity_url")
        if isinstance(key, str):
            with suppress(ValueError):
                yield IssuedKey(key, base64.decode(key), url if isinstance(url, str) else None)


def _is_signed_with(signed: Mapping[str, Any], public_key: bytes) -> bool:
    """Whether one of the object's signatures was made with this key, whoever it says made it."""
    for entity, key_id in _signatures(signed):
        with suppress(InvalidSignature):
            verify_json(signed, entity, key_id, public_key)
            return True
    return False


def _signatures(signed: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(who, key id) of the signatures that are tried."""
    servers = signed.get("signatures")
    blocks = servers.items() if isinstance(servers, Mapping) else ()
    found = [(entity, key_id) for entity, block in blocks if isinstance(block, Mapping) for key_id in block]
    return found[:_MAX_SIGNATURES]
