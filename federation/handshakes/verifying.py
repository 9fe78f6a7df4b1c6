"""What a server answers to a join of ours, looked at before anything of it is kept.

spec: server-server-api/#joining-rooms, op:sendJoinV2
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Final, NamedTuple

import msgspec
import structlog

from federation.handshakes.asking import JoinAnswer
from federation.ports import BadAnswer, Checked, EventChecker
from homeserver.events.auth_rules.signers import authorising_server
from homeserver.events.event import Event
from homeserver.events.parse import event_from_storage
from homeserver.graph.write.auth_order import cited_by
from homeserver.matrix.ids import EventId, ServerName
from homeserver.runtime.turns import next_turn, pieces

_log = structlog.get_logger("atrium.federation.handshakes")

MAX_EVENTS: Final = 300_000
"""Of the state and the auth chain together."""
AT_ONCE: Final = 2_000
REASONS: Final = 3
"""Of what is left out of one answer, of so many events it is logged why."""


class Verified(NamedTuple):
    """A room as another server has it, with signatures and hashes checked."""

    join: Event
    """With the signature of the server that vouches for it, if one does."""
    state: list[Event]
    auth_chain: list[Event]
    stored: dict[EventId, bytes]
    """Stored forms of some of them, made where they were checked."""


class _Seen(NamedTuple):
    """What of an answer was checked."""

    digests: dict[bytes, Event | None]
    """blake2b-128 of what was sent -> the event; None: it is not taken."""
    events: dict[EventId, Event]
    stored: dict[EventId, bytes]
    dropped: dict[EventId, str]
    """Why each was."""


class Verifier:
    """Checks answers. Keeps nothing in memory."""

    def __init__(self, checker: EventChecker) -> None:
        self._checker = checker

    async def verified(self, server: ServerName, join: Event, answer: JoinAnswer) -> Verified:
        """Raises `BadAnswer` where the answer cannot be that of an honest server.

        Events whose signatures cannot be verified are left out, with all that rests on them: keys of servers that are gone
        cannot always be had. Whether what is left hangs together is asked when the room is adopted.
        """
        if answer.members_omitted:
            raise BadAnswer(server, "send_join: members are omitted, which was not asked for")
        if len(answer.state) + len(answer.auth_chain) > MAX_EVENTS:
            raise BadAnswer(server, "send_join: too many events")
        signed = await self._signed(server, join, answer)
        parts = [await _digests(answer.state), await _digests(answer.auth_chain)]
        # The state and the auth chain have much in common.
        new = {digest: each for part in parts for digest, each in part}
        seen = await self._checked(server, join, new)
        state, chain = [_found(part, seen) for part in parts]
        if seen.dropped:
            why = sorted({*islice(seen.dropped.values(), REASONS)})
            _log.warning(
                "handshakes.left_out", room=join.room_id, server=server, events=len(seen.dropped), why=why
            )
            out = await _resting_on(seen.dropped, seen.events.values())
            state = [event for event in state if event.event_id not in out]
            chain = [event for event in chain if event.event_id not in out]
        return Verified(signed, state, chain, seen.stored)

    async def _signed(self, server: ServerName, join: Event, answer: JoinAnswer) -> Event:
        """Our event as the resident server has it: the same, with one more signature where one is needed."""
        if authorising_server(join) is None:
            return join
        if answer.event is None:
            raise BadAnswer(server, "send_join: nobody has signed for the join")
        checked = (await self._checker.check([answer.event], join.room_version))[0]
        if not isinstance(checked, Checked):
            raise BadAnswer(server, f"send_join: the signed join is not accepted: {checked.reason}")
        unsigned = {key: value for key, value in checked.event.fields.items() if key != "signatures"}
        ours = {key: value for key, value in join.fields.items() if key != "signatures"}
        if checked.event.event_id != join.event_id or unsigned != ours:
            raise BadAnswer(server, "send_join: the signed join is another event")
        return checked.event

    async def _checked(self, server: ServerName, join: Event, pdus: Mapping[bytes, msgspec.Raw]) -> _Seen:
        """All at once: so the keys of all servers are asked for at the same time."""
        texts: list[bytes] = []
        for part in pieces(pdus.values(), AT_ONCE):
            await next_turn()
            texts += [bytes(each) for each in part]
        checked = await self._checker.check(texts, join.room_version, bounded=False)
        seen = _Seen({}, {}, {}, {})
        for some in pieces(zip(pdus, checked, strict=True), AT_ONCE):
            await next_turn()
            for digest, result in some:
                if not isinstance(result, Checked):
                    seen.digests[digest] = None
                    if result.event_id is not None:
                        seen.dropped[result.event_id] = result.reason
                    continue
                event = seen.events.setdefault(result.event.event_id, _light(result.event))
                if event.room_id != join.room_id:
                    raise BadAnswer(server, "send_join: an event of another room")
                seen.digests[digest] = event
                if result.stored is not None:
                    seen.stored.setdefault(event.event_id, result.stored)
        return seen


async def _digests(pdus: Sequence[msgspec.Raw]) -> list[tuple[bytes, msgspec.Raw]]:
    found: list[tuple[bytes, msgspec.Raw]] = []
    for some in pieces(pdus, AT_ONCE):
        await next_turn()
        found += [(blake2b(each, digest_size=16).digest(), each) for each in some]
    return found


def _found(part: Sequence[tuple[bytes, msgspec.Raw]], seen: _Seen) -> list[Event]:
    """The events of a part of the answer, each once."""
    good = (seen.digests[digest] for digest, _ in part)
    return list({event.event_id: event for event in good if event is not None}.values())


def _light(event: Event) -> Event:
    """The same without what was decoded to check it: there may be hundreds of thousands."""
    return event_from_storage(event.pdu, event.event_id, event.room_id, event.room_version)


async def _resting_on(dropped: Collection[EventId], events: Iterable[Event]) -> set[EventId]:
    """Those, and all that rest on them. Time grows with what the events cite."""
    citing: dict[EventId, list[EventId]] = {}
    for some in pieces(events, AT_ONCE):
        await next_turn()
        for event in some:
            for each in cited_by(event):
                citing.setdefault(each, []).append(event.event_id)
    found, waiting = set(dropped), list(dropped)
    while waiting:
        for event_id in citing.get(waiting.pop(), ()):
            if event_id not in found:
                found.add(event_id)
                waiting.append(event_id)
    return found
