"""Creating rooms: the events of a new room, in the order of the specification.

spec: client-server-api/#creation (ROOM-01 to ROOM-08)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from psycopg.errors import UniqueViolation

from homeserver.events.builder import EventDraft
from homeserver.events.room_version import ROOM_VERSIONS, RoomVersion
from homeserver.events.validation import check_client_event
from homeserver.graph.interning import RoomIdentity
from homeserver.graph.rooms.head import Head
from homeserver.graph.write.append import GraphWriter, MalformedEvent, Send
from homeserver.log.entries import Alongside, Written
from homeserver.matrix.errors import (
    BadJson,
    Forbidden,
    InvalidParam,
    InvalidRoomState,
    RoomInUse,
    UnsupportedRoomVersion,
)
from homeserver.matrix.ids import RoomAlias, RoomId, ServerName, UserId, is_room_alias, is_user_id
from homeserver.policy.gate import Gate
from homeserver.policy.types import Act, alias_act, create_act, event_act, publish_act
from homeserver.rooms import store
from homeserver.rooms.by_address import AddressInvite, InvitesByAddress
from homeserver.rooms.elsewhere import Elsewhere
from homeserver.rooms.ports import Profiles
from homeserver.rooms.presets import PRESETS, Preset, power_levels
from homeserver.rooms.successors import Successors
from homeserver.runtime.clock import Entropy
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline
from homeserver.web.auth import Requester

MAX_INVITES = 200
MAX_INITIAL_STATE = 200


class StateEvent(msgspec.Struct):
    """One of `initial_state`."""

    type: str
    content: dict[str, Any]
    state_key: str = ""


class CreateRoom(msgspec.Struct):
    """Body of createRoom."""

    visibility: Literal["public", "private"] = "private"
    room_alias_name: str | None = None
    name: str | None = None
    topic: str | None = None
    invite: list[str] = []
    invite_3pid: list[dict[str, Any]] = []
    room_version: str | None = None
    creation_content: dict[str, Any] = {}
    initial_state: list[StateEvent] = []
    preset: Preset | None = None
    is_direct: bool = False
    power_level_content_override: dict[str, Any] = {}


class CreationService:
    """Makes rooms."""

    def __init__(  # noqa: PLR0913  # what it is made of; built in one place
        self,
        graph: GraphWriter,
        db: Database,
        profiles: Profiles,
        gate: Gate,
        entropy: Entropy,
        *,
        successors: Successors,
        elsewhere: Elsewhere,
        server_name: ServerName,
        default_version: RoomVersion,
    ) -> None:
        self._graph = graph
        self._db = db
        self._profiles = profiles
        self._gate = gate
        self._entropy = entropy
        self._successors = successors
        self._elsewhere = elsewhere
        self._server_name = server_name
        self._default_version = default_version
        self._by_address: InvitesByAddress | None = None

    def invite_with(self, by_address: InvitesByAddress) -> None:
        """Plug in who invites by address."""
        self._by_address = by_address

    async def create(self, requester: Requester, wish: CreateRoom) -> RoomId:
        """Make a room; all its events are committed together. Returns its id.

        Raises `UnsupportedRoomVersion`, `RoomInUse`, `InvalidRoomState`, `InvalidParam`, `BadJson`, `Forbidden`,
        what policy checks say.
        """
        version = self._version(wish)
        alias = self._alias(wish)
        _require_bounded(wish)
        addresses = self._addresses(wish)
        passage = await self._gate.admit(requester, *_acts(requester, wish, alias))
        await self._require_free(alias)
        people = (requester.user_id, *(UserId(user_id) for user_id in wish.invite))
        profiles = {user_id: await self._profiles.membership_fields(user_id) for user_id in people}
        events = RoomEvents(requester.user_id, wish, version, alias, profiles)

        def alongside(name: RoomIdentity) -> Alongside:
            def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
                if alias is not None:
                    store.add_alias(batch, alias, name.nid, requester.user_nid)
                if wish.visibility == "public":
                    store.add_published(batch, name.nid)

            return write

        drafts = events.after_create()
        elsewhere = [
            draft for draft in drafts if self._elsewhere.possible and self._is_invite_elsewhere(draft)
        ]

        def plan(_: Head) -> Sequence[Send]:
            return [Send(draft) for draft in drafts if draft not in elsewhere]

        room_id = None
        if not version.room_id_is_create_hash:
            room_id = RoomId(f"!{self._entropy.letters(18)}:{self._server_name}")
        try:
            name, _ = await self._graph.create(
                version, room_id, events.create(), plan, passage, alongside=alongside
            )
        except UniqueViolation as clash:
            if clash.diag.constraint_name != store.ONE_ROOM_PER_ALIAS:
                raise
            raise RoomInUse("The alias is taken") from clash
        except (Forbidden, MalformedEvent) as refused:
            # spec: createRoom: "a room could not be created with the given state" (ROOM-05)
            raise InvalidRoomState(f"The room would not be valid: {refused.error}") from refused
        await self._successors.created(requester, name, wish.creation_content)
        if elsewhere:
            await self._elsewhere.invite_all(name.nid, elsewhere)
        if addresses and self._by_address is not None:
            await self._by_address.invite_all(requester, name.room_id, addresses)
        return name.room_id

    def _addresses(self, wish: CreateRoom) -> list[AddressInvite]:
        """Raises `Forbidden` where nobody can be invited by address, and as `InvitesByAddress.check`."""
        if not wish.invite_3pid:
            return []
        if self._by_address is None:
            raise Forbidden("invite_3pid: this server has no identity server to invite by")
        return self._by_address.check(wish.invite_3pid)

    def _is_invite_elsewhere(self, draft: EventDraft) -> bool:
        return draft.content.get("membership") == "invite" and self._elsewhere.is_remote(
            UserId(draft.state_key or "")
        )

    def _version(self, wish: CreateRoom) -> RoomVersion:
        if wish.room_version is None:
            return self._default_version
        version = ROOM_VERSIONS.get(wish.room_version)
        if version is None:
            raise UnsupportedRoomVersion("room_version: this server does not know that version")
        return version

    def _alias(self, wish: CreateRoom) -> RoomAlias | None:
        if wish.room_alias_name is None:
            return None
        alias = f"#{wish.room_alias_name}:{self._server_name}"
        if ":" in wish.room_alias_name or not is_room_alias(alias):
            raise InvalidParam("room_alias_name: not the local part of an alias")
        return RoomAlias(alias)

    async def _require_free(self, alias: RoomAlias | None) -> None:
        if alias is not None:
            async with self._db.read() as tx:
                if await store.find_alias(tx, alias) is not None:
                    raise RoomInUse("The alias is taken")


def _require_bounded(wish: CreateRoom) -> None:
    if len(wish.invite) > MAX_INVITES or len(wish.initial_state) > MAX_INITIAL_STATE:
        raise InvalidParam(f"At most {MAX_INVITES} invites and {MAX_INITIAL_STATE} initial state events")
    for index, user_id in enumerate(wish.invite):
        if not is_user_id(user_id):
            raise InvalidParam(f"invite[{index}]: not a user ID")


def _acts(requester: Requester, wish: CreateRoom, alias: RoomAlias | None) -> list[Act]:
    """Everything that a client wants with a new room."""
    acts = [create_act(requester, wish.creation_content)]
    if alias is not None:
        acts.append(alias_act(requester, alias, None))
    if wish.visibility == "public":
        acts.append(publish_act(requester, None))
    for kind, text in (("name", wish.name), ("topic", wish.topic)):
        if text is not None:
            acts.append(event_act(requester, None, (f"m.room.{kind}", ""), {kind: text}))
    acts += [
        event_act(requester, None, (each.type, each.state_key), each.content) for each in wish.initial_state
    ]
    for user_id in dict.fromkeys(wish.invite):
        content = {"membership": "invite", **({"is_direct": True} if wish.is_direct else {})}
        acts.append(event_act(requester, None, ("m.room.member", user_id), content))
    return acts


class RoomEvents:
    """The events of a new room, as drafts."""

    def __init__(
        self,
        creator: UserId,
        wish: CreateRoom,
        version: RoomVersion,
        alias: RoomAlias | None,
        profiles: Mapping[UserId, Mapping[str, str]],
    ) -> None:
        self._creator = creator
        self._wish = wish
        self._version = version
        self._alias = alias
        self._profiles = profiles
        default: Preset = "public_chat" if wish.visibility == "public" else "private_chat"
        self._preset_name: Preset = wish.preset or default
        self._preset = PRESETS[self._preset_name]

    def create(self) -> EventDraft:
        """spec: m.room.create; client-supplied `creator` and `room_version` are overwritten (ROOM-04)"""
        content = dict(self._wish.creation_content)
        content["room_version"] = self._version.id
        content.pop("creator", None)
        if self._version.creator_in_content:
            content["creator"] = self._creator
        trusted = self._preset_name == "trusted_private_chat"
        if self._version.privileged_creators and trusted and self._wish.invite:
            # spec: createRoom, v12: invitees of a trusted room become creators, without duplicates (ROOM-08)
            given = content.get("additional_creators", [])
            if not isinstance(given, list) or not all(isinstance(user, str) for user in given):
                raise BadJson("creation_content.additional_creators: not a list of user IDs")
            content["additional_creators"] = list(dict.fromkeys([*given, *self._wish.invite]))
        check_client_event("m.room.create", "", content, self._version)
        return EventDraft("m.room.create", "", self._creator, content)

    def after_create(self) -> list[EventDraft]:
        """Everything else, in the order of the specification (ROOM-01)."""
        drafts = [self._join(), self._state("m.room.power_levels", self._levels())]
        if self._alias is not None:
            drafts.append(self._state("m.room.canonical_alias", {"alias": self._alias}))
        given = {(event.type, event.state_key): event for event in self._wish.initial_state}
        for kind, content in self._preset.state.items():
            if (kind, "") not in given:
                drafts.append(self._state(kind, dict(content)))
        named = self._name_and_topic()
        drafts += [
            self._state(event.type, event.content, event.state_key)
            for key, event in given.items()
            if key not in named
        ]
        drafts += [self._state(kind, content) for (kind, _), content in named.items()]
        drafts += [self._invite(UserId(user_id)) for user_id in dict.fromkeys(self._wish.invite)]
        return drafts

    def _join(self) -> EventDraft:
        content = {**self._profiles[self._creator], "membership": "join"}
        return EventDraft("m.room.member", self._creator, self._creator, content)

    def _levels(self) -> dict[str, Any]:
        trusted = self._wish.invite if self._preset.trust_invitees else ()
        levels = power_levels(self._creator, trusted, self._preset, self._version)
        return {**levels, **self._wish.power_level_content_override}

    def _name_and_topic(self) -> dict[tuple[str, str], dict[str, Any]]:
        named: dict[tuple[str, str], dict[str, Any]] = {}
        if self._wish.name is not None:
            named["m.room.name", ""] = {"name": self._wish.name}
        if self._wish.topic is not None:
            # spec: createRoom: also as m.topic with a text/plain body (ROOM-07)
            text = [{"body": self._wish.topic, "mimetype": "text/plain"}]
            named["m.room.topic", ""] = {"topic": self._wish.topic, "m.topic": {"m.text": text}}
        return named

    def _invite(self, user_id: UserId) -> EventDraft:
        content: dict[str, Any] = {**self._profiles[user_id], "membership": "invite"}
        if self._wish.is_direct:
            content["is_direct"] = True  # ROOM-06
        return EventDraft("m.room.member", user_id, self._creator, content)

    def _state(self, kind: str, content: dict[str, Any], state_key: str = "") -> EventDraft:
        check_client_event(kind, state_key, content, self._version)
        return EventDraft(kind, state_key, self._creator, content)
