"""Servers that see the same events in different orders reach the same state (STATE-09)."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeserver.events.event import Event
from tests.support.factory import ALICE, ALL_VERSIONS, BOB, CAROL, DAVE, START_MS, RoomFactory
from tests.support.servers import SimulatedServer

SERVERS = 4
USERS = (ALICE, BOB, CAROL, DAVE)


class Move(NamedTuple):
    """What happens next: a server speaks, or one of the letters on its way to a server arrives."""

    server: int
    kind: int
    target: int
    value: int
    letter: int


small = st.integers(0, 60)
moves = st.lists(st.builds(Move, st.integers(0, SERVERS - 1), small, small, small, small), max_size=60)


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_state_09_servers_converge_whatever_the_order_of_delivery(version: str) -> None:
    @settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
    @given(moves, st.randoms(use_true_random=False))
    def converge(drawn: list[Move], chance) -> None:
        room = RoomFactory.public(version)
        room.join(BOB, CAROL, DAVE)
        room.power_levels(users={BOB: 50, CAROL: 50}, events={"m.room.power_levels": 50})
        servers = [SimulatedServer(room) for _ in range(SERVERS)]
        mail: list[list[Event]] = [[] for _ in servers]

        for move in drawn:
            letters = mail[move.server]
            if letters and move.kind % 2:
                servers[move.server].receive(letters.pop(move.letter % len(letters)))
            else:
                event = speak(servers[move.server], USERS[move.server], move)
                for number, letters in enumerate(mail):
                    if number != move.server:
                        letters.append(event)
        for server, letters in zip(servers, mail, strict=True):
            chance.shuffle(letters)
            for letter in letters:
                server.receive(letter)

        first, *others = servers
        for other in others:
            assert other.events.keys() == first.events.keys()
            assert other.rejected == first.rejected
            assert other.state_after == first.state_after
            assert other.heads == first.heads
            assert other.state == first.state

    converge()


def speak(server: SimulatedServer, user: str, move: Move) -> Event:
    """A server's user tries something, allowed or not."""
    target, ts = USERS[move.target % len(USERS)], START_MS + move.value % 5
    state = server.state
    choice = move.kind // 2 % 7
    if choice == 0:
        membership = ("ban", "leave", "invite", "join")[move.value % 4]
        return server.create("m.room.member", {"membership": membership}, by=user, key=target, ts=ts)
    if choice == 1:
        membership = ("leave", "join")[move.value % 2]
        return server.create("m.room.member", {"membership": membership}, by=user, key=user, ts=ts)
    if choice in {2, 3}:
        levels = state.get(("m.room.power_levels", ""))
        content = {} if levels is None else dict(server.events[levels].content)
        content["users"] = {**content.get("users", {}), target: (0, 50, 75, 100)[move.value % 4]}
        return server.create("m.room.power_levels", content, by=user, key="", ts=ts)
    if choice == 4:
        rule = ("public", "invite")[move.value % 2]
        return server.create("m.room.join_rules", {"join_rule": rule}, by=user, key="", ts=ts)
    if choice == 5:
        return server.create("m.room.topic", {"topic": str(move.value)}, by=user, key="", ts=ts)
    return server.create("m.room.message", {"body": str(move.value)}, by=user, key=None, ts=ts)
