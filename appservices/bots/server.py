"""The address at which a homeserver reaches a bot. spec: application-service-api/#pushing-events, #pinging, #querying"""

from __future__ import annotations

import hmac
import json
from typing import Any, Final

from aiohttp import web

from appservices.bots.runner import Runner, TooBusy

MAX_BODY: Final = 16 * 1024 * 1024
_V1: Final = "/_matrix/app/v1"


class BotServer:
    """Takes transactions for a runner. `hs_token`: with which the homeserver proves who it is."""

    def __init__(self, runner: Runner, hs_token: str) -> None:
        self._runner = runner
        self._token = hs_token.encode()

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY)
        for prefix in (_V1, ""):  # what homeservers tried before the specification had v1
            app.router.add_put(prefix + "/transactions/{txn_id}", self._transaction)
            app.router.add_get(prefix + "/users/{user_id}", self._user)
            app.router.add_get(prefix + "/rooms/{alias}", self._unknown)
        app.router.add_post(_V1 + "/ping", self._ping)
        return app

    async def _transaction(self, request: web.Request) -> web.Response:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        try:
            body = json.loads(await request.read())
        except ValueError:
            return _error(400, "M_NOT_JSON", "The body is no JSON")
        if not isinstance(body, dict):
            return _error(400, "M_BAD_JSON", "The body is no object")
        try:
            await self._runner.receive(request.match_info["txn_id"], body)
        except TooBusy:
            return _error(503, "M_UNKNOWN", "So much waits to be answered that no more is taken")
        return web.json_response({})

    async def _ping(self, request: web.Request) -> web.Response:
        return self._refusal(request) or web.json_response({})

    async def _user(self, request: web.Request) -> web.Response:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        if request.match_info["user_id"] == self._runner.client.user_id:
            return web.json_response({})
        return _error(404, "M_NOT_FOUND", "There is no such user")

    async def _unknown(self, request: web.Request) -> web.Response:
        return self._refusal(request) or _error(404, "M_NOT_FOUND", "There is no such room")

    def _refusal(self, request: web.Request) -> web.Response | None:
        """None: it is the homeserver. spec: application-service-api/#authorization"""
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if not given:
            return _error(401, "M_UNAUTHORIZED", "A token is missing")
        if kind != "Bearer" or not hmac.compare_digest(given.encode(), self._token):
            return _error(403, "M_FORBIDDEN", "This is not the token of the homeserver")
        return None


def _error(status: int, errcode: str, error: str) -> web.Response:
    body: dict[str, Any] = {"errcode": errcode, "error": error}
    return web.json_response(body, status=status)
