"""What the configuration says of whom this server speaks with, as one immutable value. Pure, but for what it remembers.

Owns the judgement over `federation.allow`, `federation.deny` and `federation.partners`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from federation.patterns import Patterns, host_of
from homeserver.config.federation import FederationSection
from homeserver.config.partners import PartnerSection
from homeserver.config.rate_limits import Rate as RateSection
from homeserver.matrix.glob import Glob, OutOfWork, WorkBudget, fold, is_literal
from homeserver.matrix.ids import ServerName
from homeserver.web.rate_limit import Rate

REMEMBERED: Final = 4096
"""Servers of which it is remembered what is said of them."""
WORK: Final = 20_000_000
"""For all patterns on one name (`matrix.glob`): ten thousand partners are looked through within some milliseconds."""


class RoomFacts(NamedTuple):
    """What patterns of rooms look at."""

    room_id: str
    owner: str | None
    """The server whose user made the room; None: not known."""
    aliases: Sequence[str]
    """Those of this server: what aliases of others lead to, they alone decide."""


class RoomPatterns:
    """Which rooms are shared: ids (`!…`), aliases (`#…`), and servers that made them."""

    __slots__ = ("_aliases", "_ids", "_owners")

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = tuple(patterns)
        self._ids = Patterns(each for each in patterns if each.startswith("!"))
        self._aliases = Patterns(each for each in patterns if each.startswith("#"))
        self._owners = Patterns(each for each in patterns if each[0] not in "!#")

    @property
    def names_rooms(self) -> bool:
        """Whether a room that is only to be made may come to fit."""
        return bool(len(self._ids) or len(self._aliases))

    def match(self, room: RoomFacts) -> bool:
        """Whether one of them fits."""
        work = WorkBudget(WORK)
        try:
            return (
                self._ids.match(fold(room.room_id), work)
                or any(self._aliases.match(fold(alias), work) for alias in room.aliases)
                or (
                    room.owner is not None
                    and any(self._owners.match(name, work) for name in _names(room.owner))
                )
            )
        except OutOfWork:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What was agreed with a server."""

    name: str | None = None
    """As the configuration calls it; None: nothing in particular was agreed."""
    contact: str | None = None
    ca_files: tuple[Path, ...] = ()
    pins: frozenset[str] = frozenset()
    """Base64 of the SHA-256 of public keys."""
    requests: Rate | None = None
    pdus: Rate | None = None
    rooms: RoomPatterns | None = None
    """None: all."""
    media: bool = True
    max_media: int | None = None
    """Bytes; None: as for everybody."""
    presence: bool = True


NOTHING_AGREED: Final = Terms()


class Policy:
    """Answers from memory. What is denied is denied though it is allowed; names count with and without their port."""

    def __init__(self, section: FederationSection) -> None:
        self._enabled = section.enabled
        self._allow = None if section.allow is None else Patterns(section.allow)
        self._deny = Patterns(section.deny)
        self._named = {
            fold(each.server_name): _terms(each) for each in section.partners if is_literal(each.server_name)
        }
        self._patterns = [
            (Glob(fold(each.server_name)), _terms(each))
            for each in section.partners
            if not is_literal(each.server_name)
        ]
        self._judged = lru_cache(REMEMBERED)(self._judge)
        self.terms = lru_cache(REMEMBERED)(self._terms_of)
        """What was agreed with a server."""
        self.allows_some_alone = self._allow is not None
        """Whether there is a list of those who are allowed."""
        self.restricts_rooms = (
            not self._enabled
            or self._allow is not None
            or len(self._deny) > 0
            or any(each.rooms is not None for each in self.agreements)
        )
        """Whether there may be a server that is told nothing of some room."""

    @property
    def agreements(self) -> list[Terms]:
        """All that the configuration has, in its order within names and patterns."""
        return [*self._named.values(), *(terms for _, terms in self._patterns)]

    def may_speak(self, server_name: ServerName) -> bool:
        """Whether it is answered and asked at all."""
        return self._enabled and self._judged(server_name)

    def may_share(self, server_name: ServerName, room: RoomFacts) -> bool:
        """Whether it may be in a room with us."""
        if not self.may_speak(server_name):
            return False
        patterns = self.terms(server_name).rooms
        return patterns is None or patterns.match(room)

    def _judge(self, server_name: ServerName) -> bool:
        names, work = _names(server_name), WorkBudget(WORK)
        try:
            if any(self._deny.match(name, work) for name in names):
                return False
            return self._allow is None or any(self._allow.match(name, work) for name in names)
        except OutOfWork:  # more than can be told is more than can be trusted
            return False

    def _terms_of(self, server_name: ServerName) -> Terms:
        names, work = _names(server_name), WorkBudget(WORK)
        for name in names:
            if (terms := self._named.get(name)) is not None:
                return terms
        for glob, terms in self._patterns:
            if any(glob.matches(name, work) for name in names):
                return terms
        return NOTHING_AGREED


def _names(server_name: str) -> tuple[str, ...]:
    """With its port and without, the former first."""
    return tuple(dict.fromkeys((fold(server_name), fold(host_of(server_name)))))


def _terms(section: PartnerSection) -> Terms:
    return Terms(
        name=section.server_name,
        contact=section.contact,
        ca_files=section.ca_files,
        pins=frozenset(section.pins),
        requests=_rate(section.requests),
        pdus=_rate(section.pdus),
        rooms=None if section.rooms is None else RoomPatterns(section.rooms),
        media=section.media,
        max_media=section.max_media_size,
        presence=section.presence,
    )


def _rate(section: RateSection | None) -> Rate | None:
    return None if section is None else Rate(section.per_second, section.burst)
