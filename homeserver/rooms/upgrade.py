"""Replacing a room by one of another version.

Both rooms are written in one append, and the aliases move in the same transaction: there is no half an upgrade.

spec: client-server-api/#room-upgrades (ROOM-25 to ROOM-27)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from homeserver.events.builder import EventDraft
from homeserver.events.room_version import ROOM_VERSIONS, RoomVersion
from homeserver.graph.interning import RoomIdentity
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.head import Head
from homeserver.graph.write.append import GraphWriter, Replacement, Send
from homeserver.log.entries import Alongside, Written
from homeserver.matrix.errors import InvalidParam, NotFound, UnsupportedRoomVersion
from homeserver.matrix.ids import EventId, RoomId, ServerName, is_user_id
from homeserver.policy.gate import Gate
from homeserver.policy.types import create_act
from homeserver.rooms import store
from homeserver.rooms.ports import Profiles
from homeserver.rooms.sending import require_joined
from homeserver.rooms.successors import Successors
from homeserver.rooms.transfer import OldRoom
from homeserver.runtime.clock import Entropy
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline
from homeserver.web.auth import Requester

MAX_CREATORS = 100


class UpgradeService:
    """Upgrades rooms."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        graph: GraphWriter,
        rooms: Rooms,
        profiles: Profiles,
        gate: Gate,
        successors: Successors,
        entropy: Entropy,
        server_name: ServerName,
    ) -> None:
        self._db = db
        self._graph = graph
        self._rooms = rooms
        self._profiles = profiles
        self._gate = gate
        self._successors = successors
        self._entropy = entropy
        self._server_name = server_name

    async def upgrade(
        self, requester: Requester, room_id: RoomId, new_version: str, additional_creators: Sequence[str]
    ) -> RoomId:
        """Returns the id of the new room. Raises `UnsupportedRoomVersion`, `NotFound`, `Forbidden`, `InvalidParam`,
        what policy checks say: they are asked as for any room that is made.
        """
        version = ROOM_VERSIONS.get(new_version)
        if version is None:
            raise UnsupportedRoomVersion("new_version: this server does not know that version")
        creators = _creators(additional_creators) if version.privileged_creators else []
        old = await self._rooms.by_id(room_id)
        if old is None:
            raise NotFound("There is no such room")
        async with self._db.read() as tx:
            aliases = await store.find_aliases(tx, old.name.nid)
        profile = await self._profiles.membership_fields(requester.user_id)

        def plan(head: Head) -> Replacement:
            require_joined(head, requester.user_id)
            room, user_id = OldRoom(head, aliases), requester.user_id
            join = EventDraft("m.room.member", user_id, user_id, {**profile, "membership": "join"})

            def create(tombstone: EventId | None) -> EventDraft:
                predecessor = {"room_id": room_id, **({"event_id": tombstone} if tombstone else {})}
                content: dict[str, Any] = {
                    **room.creation(),
                    "room_version": version.id,
                    "predecessor": predecessor,
                    **({"creator": user_id} if version.creator_in_content else {}),
                    **({"additional_creators": creators} if creators else {}),
                }
                return EventDraft("m.room.create", "", user_id, content)

            return Replacement(
                create,
                [join, *room.drafts(user_id, {user_id, *creators}, version)],
                lambda new_id: [Send(draft) for draft in room.farewell(user_id, new_id)],
            )

        content = {"additional_creators": creators} if creators else {}
        passage = await self._gate.admit(requester, create_act(requester, content, replaces=room_id))
        name = await self._graph.replace(
            old.name.nid, version, self._new_id(version), plan, passage, alongside=_moving(old.name)
        )
        await self._successors.moved(requester, old.name, name)
        return name.room_id

    def _new_id(self, version: RoomVersion) -> RoomId | None:
        if version.room_id_is_create_hash:
            return None
        return RoomId(f"!{self._entropy.letters(18)}:{self._server_name}")


def _moving(old: RoomIdentity) -> Any:
    def alongside(new: RoomIdentity) -> Alongside:
        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            store.move_room(batch, old.nid, new.nid)

        return write

    return alongside


def _creators(user_ids: Sequence[str]) -> list[str]:
    if len(user_ids) > MAX_CREATORS:
        raise InvalidParam(f"additional_creators: at most {MAX_CREATORS}")
    for index, user_id in enumerate(user_ids):
        if not is_user_id(user_id):
            raise InvalidParam(f"additional_creators[{index}]: not a user ID")
    return list(dict.fromkeys(user_ids))
