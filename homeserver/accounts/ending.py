"""How an account ends.

spec: client-server-api/#account-deactivation (CHECKLIST AUTH-29)
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.accounts import store
from homeserver.accounts.erasure import UserErased
from homeserver.accounts.ports import AccountProfiles, ForgetUser, LeaveAllRooms
from homeserver.accounts.tasks import AccountTasks, UserTask, user_task
from homeserver.devices.service import DeviceService
from homeserver.jobs.types import JobKind
from homeserver.matrix.ids import UserId
from homeserver.runtime.clock import Clock
from homeserver.sessions.login_tokens import end_login_tokens
from homeserver.storage.tx import Pipeline

LEAVE = user_task("leave_rooms")
FORGET = user_task("forget_user")
_WAIT_SECONDS = 5.0
"""How long a client waits for its rooms to be left before it is told that the account has ended, which is so at once."""


class Deactivation:
    """Ends accounts. What rooms and other features have to do for it is plugged in with `leave` and `forget`."""

    def __init__(
        self, *, devices: DeviceService, profiles: AccountProfiles, tasks: AccountTasks, clock: Clock
    ) -> None:
        self._devices = devices
        self._profiles = profiles
        self._tasks = tasks
        self._clock = clock
        self._forgetters: list[ForgetUser] = []

    def leave_with(self, rooms: LeaveAllRooms) -> None:
        """Plug in who leaves the rooms."""

        async def leave(_user_nid: int, user_id: UserId) -> None:
            await rooms.leave_all_rooms(user_id)

        self._tasks.handle(LEAVE, leave)

    def forget_with(self, *features: ForgetUser) -> None:
        """Plug in who keeps data of users: all of them, in one call. Where nobody is plugged in, as in a command, the
        server does it.
        """
        self._forgetters.extend(features)
        self._tasks.handle(FORGET, self._forget)

    async def deactivate(self, user_nid: int, user_id: UserId, *, erase: bool) -> None:
        """End all sessions and ways in at once, and for ever; then leave the rooms, and forget what was kept for the user.

        Doing it twice is harmless. `erase`: whoever was not in a room with them sees redacted events (`erasure.py`).
        """
        now_ms = self._clock.now_ms()
        kinds: Sequence[JobKind[UserTask]] = (LEAVE, FORGET)

        def write(batch: Pipeline) -> None:
            store.deactivate(batch, user_nid, erase=erase, now_ms=now_ms)
            store.delete_openid_tokens(batch, user_nid)
            end_login_tokens(batch, user_nid)
            self._profiles.delete_profile(batch, user_nid)
            for kind in kinds:
                self._tasks.order(batch, kind, user_nid)

        entries = [
            *self._profiles.removal_entries(user_nid, user_id),
            *((UserErased(user_nid),) if erase else ()),
        ]
        await self._devices.delete_all(user_nid, user_id, also=write, entries=entries)
        for kind in kinds:
            await self._tasks.carry_out(kind, user_nid, within=_WAIT_SECONDS)

    async def _forget(self, user_nid: int, user_id: UserId) -> None:
        for feature in self._forgetters:
            await feature.forget_user(user_nid, user_id)
