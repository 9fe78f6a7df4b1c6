"""Room histories from numbers: a list of steps becomes a room with branches, forbidden attempts and merges.

A step is a handful of small integers, each taken modulo what there is to choose from, so that any list of steps is a
history, and a failing one shrinks to a few. What the rules forbid is remembered as an attempt and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from homeserver.events.event import Event, StateKey
from homeserver.matrix import base64
from homeserver.matrix.ids import EventId, domain_of
from homeserver.matrix.signing import SigningKey, sign_json
from tests.support.factory import ALICE, BOB, CAROL, DAVE, START_MS, RoomFactory

EVE: Final = "@eve:one.example"
USERS: Final = (ALICE, BOB, CAROL, DAVE, EVE)
JOIN_RULES: Final = ("public", "invite", "knock", "restricted", "knock_restricted", "private")
LEVELS: Final = (0, 25, 50, 51, 75, 100)
TYPES: Final = (
    "m.room.topic",
    "m.room.power_levels",
    "m.room.message",
    "m.room.join_rules",
    "m.room.redaction",
)
IDENTITY_KEY: Final = SigningKey(b"i" * 32, "0")

MAX_BRANCHES: Final = 4


class Step(NamedTuple):
    """What happens next; every number counts modulo its choices."""

    kind: int
    branch: int
    actor: int
    target: int
    value: int
    time: int


class Attempt(NamedTuple):
    """An event somebody tried to send, and the state it was tried in."""

    event: Event
    state: Mapping[StateKey, EventId]


@dataclass
class History:
    """What came of the steps."""

    room: RoomFactory
    branches: list[RoomFactory]
    attempts: list[Attempt] = field(default_factory=list)
    merges: list[list[Mapping[StateKey, EventId]]] = field(default_factory=list)
    """The states of every merge, and at the end those of all branches."""

    @property
    def events(self) -> dict[EventId, Event]:
        """Everything, attempts included."""
        return self.room.events | {attempt.event.event_id: attempt.event for attempt in self.attempts}


def play(version: str, steps: Sequence[Step]) -> History:
    """Let the steps happen in a public room of Alice's in which Bob and Carol are members and Bob has level 50."""
    room = RoomFactory.public(version, additional_creators=[DAVE])
    room.join(BOB, CAROL)
    room.power_levels(users={BOB: 50, CAROL: 50}, events={"m.room.power_levels": 50})
    history = History(room, [room])
    for step in steps:
        _KINDS[step.kind % len(_KINDS)](history, step)
    history.merges.append([branch.state_ids for branch in history.branches])
    return history


def _try(history: History, branch: RoomFactory, event: Event) -> None:
    history.attempts.append(Attempt(event, branch.state_ids))
    if branch.allows(event):
        branch.add(event)


def _branch(history: History, step: Step) -> RoomFactory:
    return history.branches[step.branch % len(history.branches)]


def _actor(step: Step) -> str:
    return USERS[step.actor % len(USERS)]


def _target(step: Step) -> str:
    return USERS[step.target % len(USERS)]


def _time(step: Step) -> dict[str, Any]:
    """Clocks that tie and that go backwards."""
    return {"origin_server_ts": START_MS + step.time % 8}


def _state(
    history: History, step: Step, event_type: str, content: dict[str, Any], key: str | None = ""
) -> None:
    branch = _branch(history, step)
    _try(history, branch, branch.draft(event_type, content, by=_actor(step), key=key, **_time(step)))


def _own_membership(history: History, step: Step) -> None:
    membership = ("join", "leave", "knock")[step.value % 3]
    _member(history, step, membership, _actor(step), {"displayname": str(step.value)})


def _others_membership(history: History, step: Step) -> None:
    _member(history, step, ("ban", "leave", "invite", "join")[step.value % 4], _target(step), {})


def _member(history: History, step: Step, membership: str, target: str, content: dict[str, Any]) -> None:
    _state(history, step, "m.room.member", {"membership": membership, **content}, target)


def _restricted_join(history: History, step: Step) -> None:
    branch, user, by = _branch(history, step), _actor(step), _target(step)
    content = {"membership": "join", "join_authorised_via_users_server": by}
    signatures = {domain_of(user): {"ed25519:1": "x"}, domain_of(by): {"ed25519:1": "x"}}
    event = branch.draft("m.room.member", content, by=user, key=user, signatures=signatures, **_time(step))
    _try(history, branch, event)


def _join_rule(history: History, step: Step) -> None:
    _state(history, step, "m.room.join_rules", {"join_rule": JOIN_RULES[step.value % len(JOIN_RULES)]})


def _user_level(history: History, step: Step) -> None:
    content = _levels(history, step)
    content["users"] = {**content.get("users", {}), _target(step): _level(history, step)}
    _state(history, step, "m.room.power_levels", content)


def _forget_user_level(history: History, step: Step) -> None:
    content = _levels(history, step)
    content["users"] = {
        user: level for user, level in content.get("users", {}).items() if user != _target(step)
    }
    _state(history, step, "m.room.power_levels", content)


def _single_level(history: History, step: Step) -> None:
    names = ("users_default", "events_default", "state_default", "ban", "redact", "kick", "invite")
    _state(
        history,
        step,
        "m.room.power_levels",
        _levels(history, step) | {names[step.target % 7]: _level(history, step)},
    )


def _table_level(history: History, step: Step) -> None:
    table, name = (("events", TYPES[step.target % len(TYPES)]), ("notifications", "room"))[step.time % 2]
    content = _levels(history, step)
    content[table] = {**content.get(table, {}), name: _level(history, step)}
    _state(history, step, "m.room.power_levels", content)


def _levels(history: History, step: Step) -> dict[str, Any]:
    """The levels in force; none where a merge has lost them, as versions 2-11 can (who set them left on both sides)."""
    current = _branch(history, step).state.get(("m.room.power_levels", ""))
    return {} if current is None else dict(current.content)


def _level(history: History, step: Step) -> object:
    """A level, spelled as a string now and then where the version reads those."""
    level = LEVELS[step.value % len(LEVELS)]
    spelled = history.room.version.string_power_levels and step.value % 5 == 0
    return f" {level} " if spelled else level


def _topic(history: History, step: Step) -> None:
    _state(history, step, ("m.room.topic", "m.room.name")[step.target % 2], {"text": step.value})


def _key_of_a_user(history: History, step: Step) -> None:
    _state(history, step, "com.example.own", {"value": step.value}, _target(step))


def _aliases(history: History, step: Step) -> None:
    _state(history, step, "m.room.aliases", {"aliases": []}, domain_of(_target(step)))


def _message(history: History, step: Step) -> None:
    _state(history, step, "m.room.message", {"body": str(step.value)}, None)


def _redaction(history: History, step: Step) -> None:
    branch = _branch(history, step)
    field_name = {"redacts": f"$nothing:{domain_of(_target(step))}"}
    _try(history, branch, branch.draft("m.room.redaction", {}, by=_actor(step), **field_name, **_time(step)))


def _third_party_issue(history: History, step: Step) -> None:
    content = {"display_name": "x", "public_key": base64.encode(IDENTITY_KEY.public_key)}
    _state(history, step, "m.room.third_party_invite", content, f"token{step.value % 2}")


def _third_party_redeem(history: History, step: Step) -> None:
    signed = sign_json({"mxid": _target(step), "token": f"token{step.value % 2}"}, "id.example", IDENTITY_KEY)
    if step.value % 5 == 0:
        signed["mxid"] = EVE
    content = {"membership": "invite", "third_party_invite": {"display_name": "x", "signed": signed}}
    _state(history, step, "m.room.member", content, _target(step))


def _fork(history: History, step: Step) -> None:
    if len(history.branches) < MAX_BRANCHES:
        history.branches.append(_branch(history, step).fork())


def _merge(history: History, step: Step) -> None:
    """One branch sees another; where there is only one, it forks instead."""
    if len(history.branches) == 1:
        _fork(history, step)
        return
    branch = _branch(history, step)
    other = history.branches[
        (step.branch + 1 + step.target % (len(history.branches) - 1)) % len(history.branches)
    ]
    history.merges.append([branch.state_ids, other.state_ids])
    branch.merge(other)


# Only ever appended to: kept histories (tests/interop/oracle/seeds.json) name kinds by number.
_KINDS: Final = (
    _topic,
    _own_membership,
    _own_membership,
    _others_membership,
    _others_membership,
    _others_membership,
    _user_level,
    _user_level,
    _user_level,
    _forget_user_level,
    _single_level,
    _table_level,
    _join_rule,
    _join_rule,
    _restricted_join,
    _key_of_a_user,
    _aliases,
    _message,
    _redaction,
    _third_party_issue,
    _third_party_redeem,
    _fork,
    _fork,
    _fork,
    _merge,
    _merge,
)
