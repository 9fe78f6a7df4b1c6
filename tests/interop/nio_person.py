"""A person at matrix-nio: a whole client in Python that is not ours, with encryption by vodozemac where asked for."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import nio

T = TypeVar("T")
SYNC_MILLISECONDS = 10_000
PATIENCE_SECONDS = 60.0


def accepted(response: Any) -> Any:
    """The response, unless nio calls it an error: refused by the server, or not of the shape nio expects."""
    assert not isinstance(response, nio.ErrorResponse), f"{type(response).__name__}: {response}"
    return response


@dataclass
class NioPerson:
    """One logged-in nio client that syncs in the background and remembers what it was shown."""

    client: nio.AsyncClient
    password: str
    events: list[tuple[str, Any]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _syncing: asyncio.Task[None] | None = None

    @property
    def user_id(self) -> str:
        return str(self.client.user_id)

    @classmethod
    async def register(cls, base_url: str, name: str, store: Path | None = None) -> NioPerson:
        """Makes an account (`m.login.dummy`) and logs in on a second device, which stays; the first is logged out."""
        username, password = f"{name}-{secrets.token_hex(5)}", secrets.token_urlsafe(12)
        first = nio.AsyncClient(base_url, username, config=nio.AsyncClientConfig(encryption_enabled=False))
        accepted(await first.register(username, password, device_name=f"{name}'s first"))
        accepted(await first.logout())
        await first.close()
        return await cls.log_in(base_url, str(first.user_id), password, store)

    @classmethod
    async def log_in(cls, base_url: str, user_id: str, password: str, store: Path | None = None) -> NioPerson:
        """Logs in on a new device; `store` is where its keys lie, None does without encryption."""
        client = cls._client(base_url, user_id, store)
        assert "m.login.password" in accepted(await client.login_info()).flows
        accepted(await client.login(password, device_name="nio"))
        assert client.user_id == user_id
        person = cls(client, password)
        await person._start()
        return person

    async def reopen(self) -> None:
        """Closes the client and opens the same device again from its store, as a program that was restarted."""
        await self.close()
        old = self.client
        store = Path(old.store_path) if old.store_path else None
        self.client = self._client(old.homeserver, old.user_id, store)
        self.client.restore_login(old.user_id, old.device_id, old.access_token)
        await self._start()

    @staticmethod
    def _client(base_url: str, user_id: str, store: Path | None) -> nio.AsyncClient:
        config = nio.AsyncClientConfig(
            encryption_enabled=store is not None, store_sync_tokens=True, max_timeouts=3
        )
        return nio.AsyncClient(base_url, user_id, store_path=str(store or ""), config=config)

    async def _start(self) -> None:
        self.client.add_event_callback(self._saw, nio.Event)
        self.client.add_event_callback(self._saw, nio.InviteEvent)
        self.client.add_response_callback(self._answered)
        begun = self.client.loaded_sync_token
        self._syncing = asyncio.create_task(
            self.client.sync_forever(timeout=SYNC_MILLISECONDS, full_state=True)
        )
        await self.until("the first sync", lambda: self.client.next_batch not in ("", begun))

    async def _saw(self, room: nio.MatrixRoom, event: Any) -> None:
        self.events.append((room.room_id, event))

    async def _answered(self, response: Any) -> None:
        accepted(response)
        self._changed.set()

    async def until(self, what: str, check: Callable[[], T | None]) -> T:
        """Waits until `check()` gives something true, looking again after every answer, and gives that. It may look for what is not
        there yet (LookupError).
        """
        assert self._syncing is not None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not (result := _found(check)):
                    if self._syncing.done():
                        self._syncing.result()
                        raise AssertionError("syncing ended")
                    self._changed.clear()
                    waiting = asyncio.ensure_future(self._changed.wait())
                    await asyncio.wait([waiting, self._syncing], return_when=asyncio.FIRST_COMPLETED)
                    waiting.cancel()
        except TimeoutError:
            last = [f"{type(event).__name__} {getattr(event, 'body', '')}" for _, event in self.events[-8:]]
            raise AssertionError(f"{self.user_id} waited in vain for {what}; last seen: {last}") from None
        return result

    def seen(self, room_id: str, kind: type[T]) -> Iterator[T]:
        """The events of one kind seen in a room, oldest first."""
        return (event for room, event in self.events if room == room_id and isinstance(event, kind))

    async def says(self, room_id: str, text: str, **content: Any) -> str:
        """Sends a text; answers its event id."""
        body = {"msgtype": "m.text", "body": text, **content}
        sent = await self.client.room_send(room_id, "m.room.message", body, ignore_unverified_devices=True)
        return str(accepted(sent).event_id)

    async def reads(self, room_id: str, text: str) -> Any:
        """Waits for a text, decrypted if it was encrypted; answers its event."""

        def found() -> Any:
            return next(
                (event for event in self.seen(room_id, nio.RoomMessageText) if event.body == text), None
            )

        return await self.until(f'reading "{text}"', found)

    async def joins(self, room_id: str) -> None:
        """Waits for an invitation, accepts it, and waits to be in the room."""
        await self.until(f"an invitation to {room_id}", lambda: room_id in self.client.invited_rooms)
        accepted(await self.client.join(room_id))
        await self.until(f"being in {room_id}", lambda: room_id in self.client.rooms)

    async def stop_syncing(self) -> None:
        """Ends the long poll."""
        if self._syncing is not None:
            self._syncing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._syncing
            self._syncing = None

    async def close(self) -> None:
        """Stops syncing and closes the connections; the device stays logged in."""
        await self.stop_syncing()
        await self.client.close()


def _found(check: Callable[[], T | None]) -> T | None:
    try:
        return check()
    except LookupError:
        return None
