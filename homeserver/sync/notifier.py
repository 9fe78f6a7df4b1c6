"""Wakes long polls: which users a batch of entries concerns, and who of them waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from homeserver.graph.rooms.cache import Rooms
from homeserver.log.entries import Written
from homeserver.runtime.fair_queue import paused
from homeserver.sync.recipients import RecipientIndex
from homeserver.sync.types import Recipients
from homeserver.web.auth import Requester

LINGER_SECONDS = 0.001
"""How long news waits for more. It lets the sender be answered before her own devices hear of the event: clients take an
event that comes first from `/sync` for a stranger's (matrix-js-sdk fails to send in a thread then). And what is written
meanwhile wakes nobody a second time."""


_Waiting = dict[int, list["asyncio.Future[bool]"]]
"""Long polls by whom or what they wait for."""

MAX_WAITING = 20_000
MAX_SECONDS = 90.0


class Sessions(Protocol):
    """Whether who has waited may still be answered; fulfilled by `auth`."""

    async def confirm(self, requester: Requester) -> None:
        """Raises if the session has ended or its account may not be used. No I/O while nothing has changed."""
        ...


class _NoExpiry:
    """Sessions that do not end."""

    async def confirm(self, requester: Requester) -> None:
        del requester


class Notifier:
    """Owns the long polls that wait at this process, and wakes those whom a batch of entries concerns. Bounded in number."""

    def __init__(
        self,
        rooms: Rooms,
        recipients: RecipientIndex,
        *,
        most: int = MAX_WAITING,
        longest: float = MAX_SECONDS,
    ) -> None:
        """At most `most` wait at once, each at most `longest` seconds."""
        self._sessions: Sessions = _NoExpiry()
        self._most = most
        self._longest = longest
        self._polls = 0
        self._rooms = rooms
        self._recipients = recipients
        self._waiting: _Waiting = {}
        self._watching: _Waiting = {}
        self._watchers: _Waiting = {}
        self._news: list[Written[Any]] = []
        self._lingering = False
        self._closed = False

    def confirm_with(self, sessions: Sessions) -> None:
        """Plug in who knows whether a session has ended."""
        self._sessions = sessions

    @property
    def waiting(self) -> int:
        """Long polls under way."""
        return self._polls

    async def wait(self, requester: Requester, seconds: float) -> bool:
        """Until something concerns the user, or the time is over. False when there is nothing more to wait for, or too
        many wait already.

        Raises what `Sessions.confirm` does if the session ends meanwhile.
        """
        return await self._wait([(self._waiting, requester.user_nid)], requester, seconds)

    async def watch(self, requester: Requester, room_nid: int, seconds: float) -> bool:
        """As `wait`, until something concerns everybody in a room, for somebody who is not in it."""
        tables = [(self._watching, room_nid), (self._watchers, requester.user_nid)]
        return await self._wait(tables, requester, seconds)

    async def _wait(
        self, tables: Sequence[tuple[_Waiting, int]], requester: Requester, seconds: float
    ) -> bool:
        await self._sessions.confirm(requester)
        if self._closed or self._polls >= self._most:
            return False
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        for table, key in tables:
            table.setdefault(key, []).append(future)
        deadline = loop.call_later(min(seconds, self._longest), _answer, future, False)  # nothing came
        self._polls += 1
        try:
            async with paused(in_turn=True):
                woken = await future
        finally:
            self._polls -= 1
            deadline.cancel()
            for table, key in tables:
                waiting = table[key]
                waiting.remove(future)
                if not waiting:
                    del table[key]
        await self._sessions.confirm(requester)
        return woken and not self._closed

    def session_changed(self, user_nid: int | None) -> None:
        """Sessions of a user may have ended, None: of anybody: those who wait see whether theirs has."""
        if user_nid is None:
            self._wake_everybody()
            return
        for future in (*self._waiting.get(user_nid, ()), *self._watchers.get(user_nid, ())):
            _answer(future, True)

    def applied(self, written: Sequence[Written[Any]]) -> None:
        """A batch was applied by all projections; an empty one: entries were missed."""
        if not self._waiting and not self._watching:
            return
        if not written:
            self._wake_everybody()
            return
        self._news.extend(written)
        if not self._lingering:
            self._lingering = True
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._tell)

    def _tell(self) -> None:
        """Wake whom the news concerns."""
        news, self._news, self._lingering = self._news, [], False
        for entry in {id(item.entry): item.entry for item in news}.values():
            for recipients in self._recipients.of(entry):
                self._wake(recipients)

    def interrupt(self) -> None:
        """Answer all long polls that wait now: what they wait for would not be heard of here."""
        for table in (self._waiting, self._watching):
            for futures in list(table.values()):
                for future in futures:
                    _answer(future, False)

    def close(self) -> None:
        """Answer all long polls, and let nobody wait any more."""
        self._closed = True
        self._wake_everybody()

    def _wake(self, recipients: Recipients) -> None:
        if recipients.everybody:
            self._wake_everybody()
            return
        for user_nid in recipients.users:
            if user_nid in self._waiting:
                self._wake_user(user_nid)
        if recipients.room is not None:
            self._wake_room(recipients.room)
        for room_nid in recipients.rooms:
            self._wake_room(room_nid)

    def _wake_room(self, room_nid: int) -> None:
        for future in self._watching.get(room_nid, ()):
            _answer(future, True)
        room = self._rooms.cached(room_nid)
        if room is None:  # we do not know who is in it: everybody looks for themselves
            self._wake_everybody()
            return
        here = room.local_joined
        fewer, more = (here, self._waiting) if len(here) < len(self._waiting) else (self._waiting, here)
        for user_nid in [nid for nid in fewer if nid in more]:
            self._wake_user(user_nid)

    def _wake_user(self, user_nid: int) -> None:
        for future in self._waiting[user_nid]:
            _answer(future, True)  # there is something

    def _wake_everybody(self) -> None:
        for user_nid in self._waiting:
            self._wake_user(user_nid)
        for futures in self._watching.values():
            for future in futures:
                _answer(future, True)


def _answer(future: asyncio.Future[bool], woken: bool) -> None:  # what `wait` returns
    if not future.done():
        future.set_result(woken)
