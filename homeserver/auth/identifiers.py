"""Who somebody says they are: the identifier of a login or of a password stage.

spec: client-server-api/#identifier-types (CHECKLIST AUTH-08)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeserver.auth.ports import ThreepidLookup
from homeserver.matrix.errors import BadJson, InvalidParam, MissingParam
from homeserver.matrix.ids import MAX_ID_BYTES, ServerName, UserId, domain_of

USER = "m.id.user"
THIRDPARTY = "m.id.thirdparty"
PHONE = "m.id.phone"


class Identifiers:
    """Finds the user an identifier means."""

    def __init__(self, server_name: ServerName, threepids: ThreepidLookup) -> None:
        self._server_name = server_name
        self._threepids = threepids

    async def resolve(self, fields: Mapping[str, Any]) -> UserId | None:
        """The local user that `identifier`, or the deprecated `user` or `medium` and `address` beside it, names.

        Whether the user exists is not known yet. None: nobody here can be meant.

        Raises:
            MissingParam, BadJson, InvalidParam: with the place of the mistake.
        """
        identifier = identifier_of(fields)
        kind = _text(identifier, "type")
        if kind == USER:
            return self.local_user(_text(identifier, "user"))
        if kind == THIRDPARTY:
            return await self._threepids.find_user(_text(identifier, "medium"), _text(identifier, "address"))
        if kind == PHONE:
            dialled = _text(identifier, "phone" if "phone" in identifier else "number")
            number = await self._threepids.canonical_number(_text(identifier, "country"), dialled)
            return None if number is None else await self._threepids.find_user("msisdn", number)
        raise InvalidParam("identifier.type: not m.id.user, m.id.thirdparty or m.id.phone")

    def label(self, fields: Mapping[str, Any]) -> str:
        """One text for all spellings of an identifier, whether or not it means anybody: what failures are counted by.

        Counted by account they would tell which addresses are somebody's. `fields` as `resolve`, which has read them before.
        """
        identifier = identifier_of(fields)
        kind = identifier["type"]
        if kind == USER:
            name = identifier["user"]
            told = name if name.startswith("@") else f"@{name}:{self._server_name}"
        elif kind == THIRDPARTY:
            told = f"{identifier['medium']} {identifier['address'].strip()}"
        else:
            told = f"{PHONE} {identifier['country']} {identifier.get('phone', identifier.get('number'))}"
        return told[:MAX_ID_BYTES].casefold()

    def local_user(self, name: str) -> UserId | None:
        """From a whole user id or a localpart."""
        if not name.startswith("@"):
            name = f"@{name}:{self._server_name}"
        if (
            domain_of(name) != self._server_name
            or len(name.encode("utf-8", "replace")) > MAX_ID_BYTES
            or "\0" in name
        ):
            return None
        return UserId(name)


def identifier_of(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The identifier object; made from the deprecated fields if there is none."""
    identifier = fields.get("identifier")
    if isinstance(identifier, dict):
        return identifier
    if identifier is not None:
        raise BadJson("identifier: not an object")
    if "user" in fields:
        return {"type": USER, "user": fields["user"]}
    if "medium" in fields or "address" in fields:
        return {"type": THIRDPARTY, "medium": fields.get("medium"), "address": fields.get("address")}
    raise MissingParam("Missing required key: identifier")


def _text(identifier: Mapping[str, Any], key: str) -> str:
    value = identifier.get(key)
    if value is None:
        raise MissingParam(f"Missing required key: identifier.{key}")
    if not isinstance(value, str):
        raise BadJson(f"identifier.{key}: not a string")
    return value
