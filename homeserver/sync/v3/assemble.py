"""The answer of `/sync` as bytes, spliced from what the streams gave. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from homeserver.graph.interning import RoomIdentity
from homeserver.matrix import json
from homeserver.matrix.tokens import SyncToken, format_sync_token
from homeserver.sync.types import Part, SyncRequest
from homeserver.sync.v3.rooms import RoomsPart, Section

NO_EVENTS = b'{"events":[]}'
PIECE = 256 * 1024
"""Bytes of an answer that are sent together."""


def has_news(rooms: RoomsPart, parts: Sequence[Part]) -> bool:
    """Whether there is anything to tell, so that a long poll ends."""
    if rooms.join or rooms.leave or rooms.invite or rooms.knock:
        return True
    return any(part.top or part.rooms for part in parts)


def assemble(
    rooms: RoomsPart, parts: Sequence[Part], names: Mapping[int, RoomIdentity], request: SyncRequest
) -> Iterator[bytes]:
    """Pieces of the answer. `names`: of every room in it."""
    given = next((part.to_device for part in parts if part.to_device is not None), request.upto)
    profiles = next((part.profiles for part in parts if part.profiles is not None), None)
    start = b'{"next_batch":"%b"' % format_sync_token(SyncToken(request.upto, given, profiles)).encode()
    top: dict[str, bytes] = {}
    for part in parts:
        top.update(part.always)
        top.update(part.top)
    for member, value in top.items():
        start += b',"%b":%b' % (member.encode(), value)
    join = _merged(rooms.join, parts, request.state_after)
    kinds = (("join", join), ("invite", rooms.invite), ("knock", rooms.knock), ("leave", rooms.leave))
    opened = False
    for kind, sections in kinds:
        if not sections:
            continue
        start += b'%b"%b":{' % (b"}," if opened else b',"rooms":{', kind.encode())
        opened = True
        for room, section in sections.items():
            yield b"%b%b:{%b}" % (start, json.dumps(names[room].room_id), section)
            start = b","
        start = b""
    yield b"%b%b" % (start, b"}}}" if opened else b"}")


def _merged(
    join: Mapping[int, Section], parts: Sequence[Part], state_after: str | None
) -> dict[int, Section]:
    """What the streams say of joined rooms, each something else."""
    # Who asked for `state_after` finds it in every room, also where only somebody types. (SYNC-06)
    bare = b'"%b":%b' % (state_after.encode(), NO_EVENTS) if state_after else b""
    merged = dict(join)
    for part in parts:
        for room, members in part.rooms.items():
            section = merged.get(room, bare)
            for member, value in members.items():
                section += b'%b"%b":%b' % (b"," if section else b"", member.encode(), value)
            merged[room] = section
    return merged
