"""What a bot does at its homeserver, by name. Whatever creates something takes a transaction id, so that it can be repeated."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from appservices.bots.clock import token
from appservices.bots.errors import Refused
from appservices.bots.transport import Transport, path

V3: Final = "/_matrix/client/v3"
CREATOR: Final = 2**53 - 1
"""The power level of who may do everything."""
DIRECT: Final = "m.direct"
DM_WITH: Final = "io.atrium.bot.direct"
"""In the creation content of a direct conversation that a bot began: with whom."""


class Crypto(Protocol):
    """End-to-end encryption; fulfilled by `encryption.NioCrypto`."""

    async def encrypt(
        self, room_id: str, kind: str, content: Mapping[str, Any]
    ) -> tuple[str, Mapping[str, Any]]:
        """The event to be sent in place of it: type and content; the same where the room is not encrypted."""
        ...

    async def decrypt(self, raw: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The event in an encrypted one; None if there is no key for it."""
        ...

    def note(self, room_id: str) -> None:
        """The room is encrypted from now on."""
        ...

    def knows_encrypted(self, room_id: str) -> bool:
        """Whether that was noted, or found out."""
        ...


class Client:
    """The bot's account at its homeserver. `user_id`: who it is."""

    def __init__(self, transport: Transport, user_id: str) -> None:
        self.transport = transport
        self.user_id = user_id
        self.crypto: Crypto | None = None
        self._once = token(6)
        self._numbers = itertools.count()

    @property
    def server_name(self) -> str:
        return self.user_id.partition(":")[2]

    # --- events --------------------------------------------------------------------------------------------------

    async def send(
        self, room_id: str, kind: str, content: Mapping[str, Any], txn_id: str | None = None
    ) -> str:
        """Send an event, encrypted where the room is; its id. The same `txn_id` again sends nothing. Raises `Refused`."""
        if self.crypto is not None and kind != "m.reaction":
            kind, content = await self.crypto.encrypt(room_id, kind, content)
        where = path("rooms", room_id, "send", kind, txn_id or self.new_txn())
        return str((await self.transport.request("PUT", where, body=content))["event_id"])

    async def redact(self, room_id: str, event_id: str, txn_id: str | None = None) -> str:
        """Redact an event; the redaction's id."""
        where = path("rooms", room_id, "redact", event_id, txn_id or self.new_txn())
        return str((await self.transport.request("PUT", where))["event_id"])

    async def state(self, room_id: str, kind: str, key: str = "") -> Mapping[str, Any] | None:
        """The content of a state event; None if there is none, or the bot may not see it."""
        try:
            return await self.transport.request("GET", path("rooms", room_id, "state", kind, key))
        except Refused as refusal:
            if refusal.status in {403, 404}:
                return None
            raise

    async def power_level(self, room_id: str, user_id: str) -> int:
        """How much somebody may do in a room; who made a room of version 12 or later may do everything.

        spec: client-server-api/#mroompower_levels, rooms/v12/#event-auth
        """
        where = path("rooms", room_id, "state", "m.room.create", "")
        create = await self.transport.request("GET", where, params={"format": "event"})
        content, sender = create.get("content", create), create.get("sender")
        version = content.get("room_version", "1")
        privileged = isinstance(version, str) and version.isdecimal() and int(version) >= 12
        if privileged and user_id in {sender, *content.get("additional_creators", [])}:
            return CREATOR
        levels = await self.state(room_id, "m.room.power_levels")
        if levels is None:
            return CREATOR if user_id == sender else 0
        found = levels.get("users", {}).get(user_id, levels.get("users_default", 0))
        return found if isinstance(found, int) else 0

    async def set_state(self, room_id: str, kind: str, content: Mapping[str, Any], key: str = "") -> str:
        """Set state; the event's id."""
        where = path("rooms", room_id, "state", kind, key)
        return str((await self.transport.request("PUT", where, body=content))["event_id"])

    async def to_device(
        self, kind: str, messages: Mapping[str, Mapping[str, Mapping[str, Any]]], txn_id: str | None = None
    ) -> None:
        """Send to devices: user -> device -> content."""
        where = path("sendToDevice", kind, txn_id or self.new_txn())
        await self.transport.request("PUT", where, body={"messages": messages})

    async def typing(self, room_id: str, *, seconds: float) -> None:
        """Say that an answer is being made, for so long; 0: no more."""
        body: dict[str, Any] = {"typing": seconds > 0}
        if seconds > 0:
            body["timeout"] = int(seconds * 1000)
        await self.transport.request("PUT", path("rooms", room_id, "typing", self.user_id), body=body)

    # --- rooms ---------------------------------------------------------------------------------------------------

    async def join(self, room: str) -> str:
        """Come into a room, by id or alias; its id."""
        return str((await self.transport.request("POST", path("join", room)))["room_id"])

    async def leave(self, room_id: str) -> None:
        await self.transport.request("POST", path("rooms", room_id, "leave"))

    async def invite(self, room_id: str, user_id: str) -> None:
        await self.transport.request("POST", path("rooms", room_id, "invite"), body={"user_id": user_id})

    async def members(self, room_id: str) -> Sequence[str]:
        """Who is joined."""
        answer = await self.transport.request("GET", path("rooms", room_id, "joined_members"))
        return list(answer.get("joined", {}))

    async def joined_rooms(self) -> Sequence[str]:
        answer = await self.transport.request("GET", f"{V3}/joined_rooms")
        return [str(room) for room in answer.get("joined_rooms", [])]

    async def create_room(self, **options: Any) -> str:
        """Make a room, with what the specification's `createRoom` takes; its id. There is no transaction id for it: give it a
        `room_alias_name`, or use `room` and `direct`, which find what was made before.
        """
        return str((await self.transport.request("POST", f"{V3}/createRoom", body=options))["room_id"])

    async def room(self, alias_name: str, **options: Any) -> str:
        """The room `#alias_name:server`; made if it is not there. The bot is in it then."""
        try:
            return await self.create_room(room_alias_name=alias_name, **options)
        except Refused as refusal:
            if refusal.errcode != "M_ROOM_IN_USE":
                raise
        return await self.join(f"#{alias_name}:{self.server_name}")

    async def direct(self, user_id: str) -> str:
        """The direct conversation with somebody; begun if there is none. Not made twice, also when it is interrupted."""
        known = await self.account_data(DIRECT) or {}
        joined = set(await self.joined_rooms())
        for room_id in known.get(user_id, []):
            if room_id in joined:
                return str(room_id)
        listed = {room_id for rooms in known.values() for room_id in rooms}
        found = await self._unlisted_direct(user_id, joined - listed)
        if found is None:
            found = await self.create_room(
                preset="trusted_private_chat",
                is_direct=True,
                invite=[user_id],
                creation_content={DM_WITH: user_id},
            )
        rooms = [*known.get(user_id, []), found]
        await self.set_account_data(DIRECT, {**known, user_id: rooms})
        return found

    async def _unlisted_direct(self, user_id: str, rooms: set[str]) -> str | None:
        """One that was made, but not listed any more before the bot ended."""
        for room_id in sorted(rooms):
            create = await self.state(room_id, "m.room.create")
            if create is not None and create.get(DM_WITH) == user_id:
                return room_id
        return None

    # --- the account ---------------------------------------------------------------------------------------------

    async def account_data(self, kind: str) -> dict[str, Any] | None:
        try:
            return await self.transport.request("GET", path("user", self.user_id, "account_data", kind))
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise

    async def set_account_data(self, kind: str, content: Mapping[str, Any]) -> None:
        where = path("user", self.user_id, "account_data", kind)
        await self.transport.request("PUT", where, body=content)

    async def set_displayname(self, name: str) -> None:
        where = path("profile", self.user_id, "displayname")
        if (await self._profile(where)).get("displayname") != name:
            await self.transport.request("PUT", where, body={"displayname": name})

    async def _profile(self, where: str) -> Mapping[str, Any]:
        try:
            return await self.transport.request("GET", where)
        except Refused:
            return {}

    async def register(self) -> None:
        """Make the account, if the homeserver has not. spec: application-service-api/#server-admin-style-permissions"""
        body = {
            "type": "m.login.application_service",
            "username": self.user_id[1:].partition(":")[0],
            "inhibit_login": True,
        }
        try:
            await self.transport.request("POST", f"{V3}/register", body=body)
        except Refused as refusal:
            if refusal.errcode != "M_USER_IN_USE":
                raise

    async def make_device(self, device_id: str, name: str) -> bool:
        """Make a device for the bot, or find it. False: the homeserver makes none for application services. spec: MSC4190"""
        where, params = path("devices", device_id), {"user_id": self.user_id}
        try:
            await self.transport.request("PUT", where, params=params, body={"display_name": name})
            found = await self.transport.request("GET", where, params=params)
        except Refused:
            return False
        return found.get("device_id") == device_id

    def new_txn(self) -> str:
        """A transaction id that was never used."""
        return f"{self._once}.{next(self._numbers)}"


async def whoami(transport: Transport) -> str:
    """Who the application service is."""
    return str((await transport.request("GET", f"{V3}/account/whoami"))["user_id"])
