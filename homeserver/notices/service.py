"""Sends notices, each user's into their room, which is made with the first one; and keeps users from turning it down.

spec: client-server-api/#server-notices (CHECKLIST NOTICE-01, NOTICE-02)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from homeserver.account_data.service import AccountDataService
from homeserver.accounts.registration import RegistrationService
from homeserver.accounts.service import AccountService
from homeserver.accounts.types import NewAccount
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.refs import INVITE, JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.log.keyed_locks import KeyedLocks
from homeserver.matrix.errors import CannotLeaveServerNoticeRoom, InvalidParam, NotFound, Unknown, UserInUse
from homeserver.matrix.ids import EventId, RoomId, UserId, domain_of, is_user_id
from homeserver.notices import store
from homeserver.policy.types import ALLOW, Act, Check, Kind, Refuse, Verdict
from homeserver.profiles.service import ProfileService
from homeserver.rooms.creation import CreateRoom, CreationService
from homeserver.rooms.membership import MembershipService
from homeserver.rooms.sending import SendingService
from homeserver.storage.database import Database
from homeserver.web.auth import Requester

TAG: Final = "m.server_notice"
PINNED: Final = "m.room.pinned_events"
USER_TYPE: Final = "server_notices"
"""Of the account that notices come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What users see of it."""

    sender: UserId
    display_name: str
    avatar_url: str | None
    room_name: str


class People(NamedTuple):
    """What makes and finds accounts."""

    accounts: AccountService
    registration: RegistrationService
    profiles: ProfileService


class Conversations(NamedTuple):
    """What makes and fills rooms."""

    creation: CreationService
    membership: MembershipService
    sending: SendingService
    account_data: AccountDataService
    events: EventCache


class ServerNotices:
    """Keeps nothing in memory but whether the account of the sender is there."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        rooms: Rooms,
        interning: Interning,
        people: People,
        conversations: Conversations,
        look: Look | None,
    ) -> None:
        """`look`: None: this server sends no notices."""
        self._db = db
        self._rooms = rooms
        self._interning = interning
        self._people = people
        self._conversations = conversations
        self._look = look
        self._sender: Requester | None = None
        self._turns = KeyedLocks()

    async def send(
        self,
        user_id: str,
        event_type: str,
        state_key: str | None,
        content: Mapping[str, Any],
        txn_id: str | None,
    ) -> EventId:
        """Tell a user something; once under a transaction id. Returns the id of the event.

        Raises `Unknown` where notices are switched off, `InvalidParam` for a user of another server, `NotFound`, what sending
        the event raises.
        """
        sender = await self._acting()
        user_nid = await self._user(sender, user_id)
        async with self._turns.of(user_nid):
            room_id = await self._room(sender, user_nid, UserId(user_id))
        sending = self._conversations.sending
        if state_key is not None:
            return await sending.put_state(sender, room_id, (event_type, state_key), content, txn_id=txn_id)
        return await sending.send(sender, room_id, event_type, txn_id, content)

    async def pin(self, user_id: str, content: Mapping[str, Any]) -> EventId:
        """Send a message and pin it in the user's room. Returns its id; raises as `send`."""
        event_id = await self.send(user_id, "m.room.message", None, content, None)
        user_nid = await self._user(await self._acting(), user_id)
        await self._change_pins(user_nid, lambda pinned: [*pinned, event_id])
        return event_id

    async def unpin(self, user_nid: int, event_id: EventId) -> None:
        """It is pinned in the user's room no longer; nothing where they have none. Raises as `send`."""
        await self._change_pins(user_nid, lambda pinned: [each for each in pinned if each != event_id])

    @property
    def check(self) -> Check:
        """See `Manifest.policy`: nobody turns down the invite to the room of their notices. They may leave it afterwards.

        spec: client-server-api/#server-notices: "Servers should not prevent the user leaving the room after joining"
        """
        return Check(
            name="notices.leaving",
            kinds={Kind.MEMBERSHIP},
            decide=self._decide,
            when_failing="allow",
        )

    async def _decide(self, act: Act) -> Verdict:
        requester = act.requester
        own = requester is not None and act.target == act.actor and act.room_id is not None
        if not own or act.content.get("membership") != "leave":
            return ALLOW
        assert requester is not None
        assert act.room_id is not None
        async with self._db.read() as tx:
            room_nid = await store.find_room(tx, requester.user_nid)
        name = await self._interning.room(act.room_id) if room_nid is not None else None
        if name is None or name.nid != room_nid:
            return ALLOW
        if (await self._rooms.get(name.nid)).membership(requester.user_id) != INVITE:
            return ALLOW
        return Refuse(CannotLeaveServerNoticeRoom("The server has something to tell you in this room"))

    async def forget_user(self, user_nid: int, _user_id: UserId) -> None:
        """See `accounts.ports.ForgetUser`."""
        async with self._db.transaction() as tx:
            await store.delete_of_user(tx, user_nid)

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _change_pins(self, user_nid: int, change: Callable[[list[object]], list[object]]) -> None:
        async with self._db.read() as tx:
            room_nid = await store.find_room(tx, user_nid)
        if room_nid is None:
            return
        room = await self._rooms.get(room_nid)
        current = room.state.get((PINNED, ""))
        event = await self._conversations.events.one(current) if current is not None else None
        before = event.event.content.get("pinned") if event is not None else None
        pinned = change(before if isinstance(before, list) else [])
        sender = await self._acting()
        await self._conversations.sending.put_state(
            sender, room.name.room_id, (PINNED, ""), {"pinned": pinned}
        )

    async def _user(self, sender: Requester, user_id: str) -> int:
        if not is_user_id(user_id) or domain_of(user_id) != domain_of(sender.user_id):
            raise InvalidParam("user_id: notices go to users of this server")
        account = await self._people.accounts.find(UserId(user_id))
        if account is None or account.deactivated:
            raise NotFound("There is no such user")
        return account.user_nid

    async def _acting(self) -> Requester:
        """The user whom notices come from, made with the first of them."""
        if self._look is None:
            raise Unknown("This server sends no notices (server_notices.enabled in its configuration)")
        if self._sender is not None:
            return self._sender
        look, people = self._look, self._people
        account = await people.accounts.find(look.sender)
        if account is None:
            new = NewAccount(look.sender, user_type=USER_TYPE, displayname=look.display_name)
            with contextlib.suppress(UserInUse):  # another process was quicker
                await people.registration.register(new, password=None, session=None)
            account = await people.accounts.find(look.sender)
        if account is None or account.user_type != USER_TYPE or account.deactivated:
            raise Unknown("server_notices.sender: this account belongs to somebody")
        sender = Requester(user_id=look.sender, user_nid=account.user_nid, is_admin=True, rate_limited=False)
        await people.profiles.set_field(sender, "displayname", look.display_name)
        if look.avatar_url is not None:
            await people.profiles.set_field(sender, "avatar_url", look.avatar_url)
        self._sender = sender
        return sender

    async def _room(self, sender: Requester, user_nid: int, user_id: UserId) -> RoomId:
        """The user's room; they are invited to it if they are not in it."""
        async with self._db.read() as tx:
            room_nid = await store.find_room(tx, user_nid)
        if room_nid is None:
            room_nid = await self._new_room(sender, user_nid, user_id)
        room = await self._rooms.get(room_nid)
        room_id = room.name.room_id
        if room.membership(user_id) not in (INVITE, JOIN):
            await self._conversations.membership.invite(sender, room_id, user_id)
        return room_id

    async def _new_room(self, sender: Requester, user_nid: int, user_id: UserId) -> int:
        assert self._look is not None
        wish = CreateRoom(
            name=self._look.room_name,
            preset="private_chat",
            # Nobody but the server speaks there.
            power_level_content_override={"users_default": -10, "events_default": 0},
        )
        room_id = await self._conversations.creation.create(sender, wish)
        name = await self._interning.room(room_id)
        assert name is not None
        async with self._db.transaction() as tx:
            room_nid = await store.put_room(tx, user_nid, name.nid)
        if room_nid == name.nid:
            await self._conversations.account_data.put_tag(user_nid, room_id, TAG, {})
            await self._conversations.membership.invite(sender, room_id, user_id)
        return room_nid
