"""Webhooks of a room, by its members: what a `/`-command of a client, or a bot, calls. Endpoints of our own."""

from __future__ import annotations

from typing import Final

import msgspec

from homeserver.hooks.administration import HookAdministration, NewHook
from homeserver.hooks.rights import HookRights
from homeserver.hooks.types import Hook
from homeserver.matrix.errors import NotFound
from homeserver.matrix.ids import RoomId, UserId
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, EmptyObject, Path, endpoint

_OF_ROOM: Final = "/_atrium/client/v1/rooms/{roomId}/hooks"


class WishedHook(msgspec.Struct):
    """`name`: as who it speaks; `avatar_url`: mxc://."""

    name: str
    avatar_url: str | None = None


class ShownHook(msgspec.Struct):
    """A hook as members see it. Moments in ms since 1970."""

    hook_id: str
    user_id: UserId
    name: str
    made_by: UserId
    created_ms: int
    last_used_ms: int | None


class MadeHook(msgspec.Struct):
    """`path`: what is put behind the server's address, with the secret; it is told this once."""

    hook_id: str
    user_id: UserId
    path: str


class ShownHooks(msgspec.Struct):
    hooks: list[ShownHook]


class MembersHooksApi:
    """For members who may change the room's settings."""

    def __init__(self, administration: HookAdministration, rights: HookRights) -> None:
        self._administration = administration
        self._rights = rights

    @endpoint("makeWebhook", "POST", _OF_ROOM, auth=Auth.USER, limit="room")
    async def make(self, requester: Requester, room_id: Path[RoomId], body: Body[WishedHook]) -> MadeHook:
        """Makes a webhook; its user comes into the room in a moment."""
        await self._rights.require(requester, room_id)
        made = await self._administration.add(
            NewHook(room_id, body.name, requester.user_id, body.avatar_url, few=True)
        )
        return MadeHook(made.hook.hook_id, made.hook.user_id, made.path)

    @endpoint("listWebhooks", "GET", _OF_ROOM, auth=Auth.USER)
    async def hooks(self, requester: Requester, room_id: Path[RoomId]) -> ShownHooks:
        """Lists the room's webhooks, without their secrets."""
        await self._rights.require(requester, room_id)
        return ShownHooks([_shown(hook) for hook in await self._administration.hooks_of(room_id)])

    @endpoint("revokeWebhook", "DELETE", _OF_ROOM + "/{hookId}", auth=Auth.USER)
    async def revoke(self, requester: Requester, room_id: Path[RoomId], hook_id: Path[str]) -> EmptyObject:
        """Revokes one, whoever has made it."""
        await self._rights.require(requester, room_id)
        if hook_id not in {hook.hook_id for hook in await self._administration.hooks_of(room_id)}:
            raise NotFound("There is no such webhook in this room")
        await self._administration.revoke(hook_id)
        return EmptyObject()


def _shown(hook: Hook) -> ShownHook:
    return ShownHook(hook.hook_id, hook.user_id, hook.name, hook.made_by, hook.created_ms, hook.last_used_ms)
