"""An application service that listens: it takes transactions and notes when each event came.

spec: application-service-api/#pushing-events
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from benchmarks.wire import Target
from tests.support.process import free_port

SENDER = "benchmark-bot"


class Bot:
    """Serves once it is started, in the load generator. Its registration is a file that a homeserver reads when it starts."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.file = folder / "benchmark-bot.yaml"
        self.token = os.urandom(16).hex()
        self.received: dict[str, float] = {}
        """Event ID -> when it came first (`time.perf_counter`)."""
        self.transactions = 0
        self._runner: web.AppRunner | None = None
        self.file.write_text(json.dumps(self._registration()))

    def _registration(self) -> dict[str, Any]:
        return {
            "id": SENDER,
            "url": f"http://127.0.0.1:{self.port}",
            "as_token": self.token,
            "hs_token": os.urandom(16).hex(),
            "sender_localpart": SENDER,
            "rate_limited": False,
            "namespaces": {"users": [], "aliases": [], "rooms": []},
        }

    def joins(self, target: Target, room: str) -> bytes:
        """The request with which it joins a room."""
        return target.request("POST", f"/_matrix/client/v3/join/{room}", token=self.token, body={})

    async def start(self) -> None:
        """Listen; once."""
        if self._runner is not None:
            return
        app = web.Application(client_max_size=2**24)
        app.router.add_put("/_matrix/app/v1/transactions/{txn}", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def _take(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        now = time.perf_counter()
        self.transactions += 1
        for event in body["events"]:
            self.received.setdefault(event["event_id"], now)
        return web.json_response({})
