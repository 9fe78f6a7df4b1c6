"""Synapse's authorisation rules and state resolution, as operations of the oracle.

A room arrives as `{"version": "11", "events": {id: pdu}, "rejected": [ids]}`. Loaded by `worker.py` in Synapse's environment.
"""

from typing import Any

from synapse import event_auth
from synapse.api.errors import SynapseError
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS, StateResolutionVersions
from synapse.events import EventBase, make_event_from_dict
from synapse.state import v1, v2
from synapse.storage.databases.main.event_federation import StateDifference

State = dict[tuple[str, str], str]


def room(arguments: dict[str, Any]) -> dict[str, Any]:
    """Judge and resolve: `checks` are `[event id, [ids of the state]]`, `resolutions` lists of `[[type, key, id]…]`.

    Answers `ids` (Synapse's own event ids), `checks` (None or why not), `auth_events` (the same for the rules about
    auth events of every event checked), and `resolutions` (sorted entries).
    """
    events = _events(arguments)
    return {
        "ids": {name: event.event_id for name, event in events.items()},
        "checks": [_check(events[name], [events[a] for a in state]) for name, state in arguments["checks"]],
        "auth_events": [_check_auth_events(events[name], events) for name, _ in arguments["checks"]],
        "resolutions": [_resolve(sets, events, arguments["version"]) for sets in arguments["resolutions"]],
    }


def _events(arguments: dict[str, Any]) -> dict[str, EventBase]:
    version = KNOWN_ROOM_VERSIONS[arguments["version"]]
    rejected = set(arguments.get("rejected", ()))
    return {
        name: make_event_from_dict(pdu, version, rejected_reason="rejected" if name in rejected else None)
        for name, pdu in arguments["events"].items()
    }


def _check(event: EventBase, state: list[EventBase]) -> str | None:
    try:
        if event.type == "m.room.create":
            event_auth._check_create(event)
        event_auth.validate_event_for_room_version(event)
        event_auth.check_state_dependent_auth_rules(event, state)
    except SynapseError as error:
        return str(error)
    except (TypeError, ValueError, AttributeError) as error:
        return f"crashed: {error!r}"
    return None


def _check_auth_events(event: EventBase, events: dict[str, EventBase]) -> str | None:
    try:
        _run(event_auth.check_state_independent_auth_rules(_Store(events), event))
    except SynapseError as error:
        return str(error)
    except (AttributeError, RuntimeError) as error:
        # A message event among the auth events (it looks for the state key), or in version 12 the create event.
        return f"crashed: {error!r}"
    return None


def _resolve(sets: list[list[list[str]]], events: dict[str, EventBase], version_id: str) -> list[list[str]]:
    version = KNOWN_ROOM_VERSIONS[version_id]
    states: list[State] = [{(kind, key): event_id for kind, key, event_id in entries} for entries in sets]
    room_id = next(iter(events.values())).room_id
    if version.state_res == StateResolutionVersions.V1:
        resolved = _run(v1.resolve_events_with_store(room_id, version, states, dict(events), _nothing))
    else:
        # All events are handed over as not yet stored, so that Synapse computes auth difference and subgraph itself.
        resolved = _run(
            v2.resolve_events_with_store(_Clock(), room_id, version, states, dict(events), _Store(events))
        )
    return sorted([kind, key, event_id] for (kind, key), event_id in resolved.items())


class _Clock:
    async def sleep(self, duration: Any) -> None:
        return


class _Store:
    def __init__(self, events: dict[str, EventBase]) -> None:
        self._events = events

    async def get_events(self, event_ids: Any, *args: Any, **kwargs: Any) -> dict[str, EventBase]:
        return {event_id: self._events[event_id] for event_id in event_ids if event_id in self._events}

    async def get_auth_chain_difference(self, *args: Any) -> StateDifference:
        return StateDifference(auth_difference=set(), conflicted_subgraph=set())


async def _nothing(event_ids: Any) -> dict[str, EventBase]:
    return {}


def _run(coroutine: Any) -> Any:
    """Run a coroutine that never really waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the coroutine waited for something")
