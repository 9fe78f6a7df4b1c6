"""Users of a scripted server in rooms of an Atrium, without a handshake: their events are received as if they had been sent.

bob = remote.user("bob")
await take_part(here, remote, room, bob)                       # joins
event = await says(here, remote, room, bob, "m.room.message", {"body": "x"})
"""

from collections.abc import Mapping
from typing import Any

from homeserver.events.auth_selection import auth_keys_for
from homeserver.events.builder import next_depth, reference_to
from homeserver.events.event import Event
from homeserver.matrix.ids import RoomId
from tests.support.remote_server import RemoteServer
from tests.support.server import Server


async def make(
    here: Server,
    remote: RemoteServer,
    room_id: str,
    sender: str,
    kind: str,
    content: Mapping[str, Any],
    state_key: str | None = None,
    **more: Any,
) -> Event:
    """An event of a remote user on top of the room as it is, signed and not sent."""
    assert here.app is not None
    core = here.app.core
    room = await core.rooms.known(RoomId(room_id))
    version = room.name.version
    keys = auth_keys_for(kind, state_key, sender, content, version)
    loaded = await core.events.load([room.state[key] for key in keys if key in room.state])
    last = await core.events.load([ref.nid for ref in room.extremities])
    arguments = {
        "room_id": RoomId(room_id),
        "prev": [reference_to(each.event) for each in last.values()],
        "auth": [reference_to(each.event) for each in loaded.values()],
        "depth": next_depth((each.event.depth for each in last.values()), version),
        **more,
    }
    return remote.event(version.id, kind, content, state_key=state_key, sender=sender, **arguments)


async def says(
    here: Server,
    remote: RemoteServer,
    room_id: str,
    sender: str,
    kind: str,
    content: Mapping[str, Any],
    state_key: str | None = None,
    **more: Any,
) -> Event:
    """A remote user sends an event; the room takes it."""
    assert here.app is not None
    event = await make(here, remote, room_id, sender, kind, content, state_key, **more)
    persisted = await here.app.core.receiver.receive(event)
    assert not persisted.hidden, f"{event} was not taken: {persisted.flags}"
    return event


async def take_part(
    here: Server, remote: RemoteServer, room_id: str, user_id: str, membership: str = "join"
) -> Event:
    """A remote user joins, or leaves."""
    return await says(here, remote, room_id, user_id, "m.room.member", {"membership": membership}, user_id)
