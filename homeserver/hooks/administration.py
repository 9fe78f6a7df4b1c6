"""Making, listing and revoking hooks, beside a running server or without one: `atrium hook`."""

from __future__ import annotations

from typing import Final, NamedTuple

from homeserver.accounts.ending import Deactivation
from homeserver.accounts.names import HOOK_USERS
from homeserver.accounts.registration import RegistrationService
from homeserver.accounts.types import NewAccount
from homeserver.graph.refs import JOIN as JOINED
from homeserver.graph.rooms.cache import Rooms
from homeserver.hooks import store
from homeserver.hooks.service import refuse_encrypted
from homeserver.hooks.types import JOIN, PATH, Hook, JoinHook, digest_of
from homeserver.jobs.service import Jobs
from homeserver.log.tail import Tail
from homeserver.matrix.errors import Forbidden, InvalidParam, NotFound
from homeserver.matrix.ids import RoomId, ServerName, UserId, is_room_alias, is_room_id
from homeserver.profiles.service import ProfileService
from homeserver.runtime.clock import Clock, Entropy
from homeserver.sessions.acting import ActingUsers
from homeserver.storage.database import Database

MAX_HOOKS: Final = 10_000
MAX_OF_ROOM: Final = 20
"""That members make."""
MAX_NAME: Final = 100
_SECRET_BYTES: Final = 32


class NewHook(NamedTuple):
    """What is wished for. `room`: an id, or an alias of this server; `avatar_url`: mxc://."""

    room: str
    name: str
    made_by: UserId
    avatar_url: str | None = None
    few: bool = False
    """It is wished for by a member: a room has so many at most."""


class Made(NamedTuple):
    """A hook and, this once, the path at which it is reached: it holds the secret."""

    hook: Hook
    path: str


class HookAdministration:
    """What `atrium hook` does."""

    def __init__(  # noqa: PLR0913  # what it is made of; built in one place
        self,
        *,
        db: Database,
        jobs: Jobs,
        rooms: Rooms,
        tail: Tail,
        registration: RegistrationService,
        profiles: ProfileService,
        ending: Deactivation,
        server_name: ServerName,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._db = db
        self._jobs = jobs
        self._rooms = rooms
        self._tail = tail
        self._registration = registration
        self._profiles = profiles
        self._ending = ending
        self._server_name = server_name
        self._clock = clock
        self._entropy = entropy

    async def add(self, new: NewHook) -> Made:
        """Make a hook and its user, who comes into the room as soon as a server runs.

        Raises:
            NotFound: there is no such room or user here.
            Forbidden: the user who makes it is not in the room, or the room is encrypted.
            InvalidParam: a name of no, or too many, characters; too many hooks.
        """
        if not 0 < len(new.name.strip()) <= MAX_NAME:
            raise InvalidParam(f"A name has 1 to {MAX_NAME} characters")
        room_id, made_by_nid = await self._find(new)
        hook_id, secret = self._entropy.letters(10).lower(), self._entropy.token(_SECRET_BYTES)
        user_id = UserId(f"@{HOOK_USERS}{hook_id}:{self._server_name}")
        account = NewAccount(user_id, user_type="bot", displayname=new.name)
        registered = await self._registration.register(account, password=None, session=None)
        hook = Hook(
            hook_id,
            registered.user_nid,
            user_id,
            room_id,
            made_by_nid,
            new.made_by,
            new.name,
            self._clock.now_ms(),
            None,
        )
        if new.avatar_url is not None:
            requester = await ActingUsers(self._db).requester(registered.user_nid)
            await self._profiles.set_field(requester, "avatar_url", new.avatar_url)
        async with self._db.transaction() as tx:
            await store.insert(tx, hook, digest_of(secret))
            await self._jobs.add(tx, JOIN, JoinHook(hook_id), key=hook_id)
        self._jobs.wake()
        return Made(hook, PATH + secret)

    async def hooks(self) -> list[Hook]:
        """All of them."""
        async with self._db.read() as tx:
            return await store.list_all(tx, MAX_HOOKS)

    async def hooks_of(self, room_id: RoomId) -> list[Hook]:
        """Those of a room."""
        async with self._db.read() as tx:
            return await store.list_of_room(tx, room_id, MAX_HOOKS)

    async def revoke(self, hook_id: str) -> Hook:
        """Its address is worth nothing from now on; its user leaves the room, what it has said stays. Raises `NotFound`."""
        async with self._db.transaction() as tx:
            hook = await store.find(tx, hook_id)
            await store.delete(tx, hook_id)
        if hook is None:
            raise NotFound(f"There is no webhook {hook_id}")
        await self._ending.deactivate(hook.user_nid, hook.user_id, erase=False)
        return hook

    async def _find(self, new: NewHook) -> tuple[RoomId, int]:
        async with self._db.read() as tx:
            if await store.count(tx) >= MAX_HOOKS:
                raise InvalidParam(f"There are {MAX_HOOKS} webhooks already")
            if new.few and len(await store.list_of_room(tx, RoomId(new.room), MAX_OF_ROOM)) >= MAX_OF_ROOM:
                raise InvalidParam(f"The room has {MAX_OF_ROOM} webhooks already")
            user_nid = await store.find_user(tx, new.made_by)
            room_id = RoomId(new.room) if is_room_id(new.room) else None
            if is_room_alias(new.room):
                room_id = await store.find_room(tx, new.room)
        if user_nid is None:
            raise NotFound(f"There is no user {new.made_by} here")
        await self._tail.fresh()
        room = None if room_id is None else await self._rooms.by_id(room_id)
        if room is None or room_id is None:
            raise NotFound(f"There is no room {new.room} here")
        refuse_encrypted(room)
        if room.membership(new.made_by) != JOINED:
            raise Forbidden(f"{new.made_by} is not in the room: say by --by who is, and may invite")
        return room_id, user_nid
