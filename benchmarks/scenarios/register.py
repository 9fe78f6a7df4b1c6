from __future__ import annotations

from functools import partial

from typing_extensions import override

from benchmarks.meter import Meter
from benchmarks.people import registration
from benchmarks.scenario import Scenario, keep_busy
from benchmarks.wire import Connection, RequestFailed, Response

NEWCOMERS = 4


class Register(Scenario):
    """Accounts are made on 4 connections at once, with the password hash as cheap as the server can make it."""

    name = "register"
    title = "Register, 4 at a time"
    operation = "account"

    @override
    async def measure(self, meter: Meter) -> None:
        connections = [Connection(self.stage.target) for _ in range(NEWCOMERS)]
        await keep_busy(meter, [partial(self._register, connection) for connection in connections])
        for connection in connections:
            connection.close()

    async def _register(self, connection: Connection) -> Response:
        name, token = self.stage.new_name("newcomer"), self.stage.registration_token
        response = await connection.send(registration(self.stage.target, name, token=token))
        if (
            response.status == 401
        ):  # a server that wants the session it has just handed out: both requests count
            session = response.json()["session"]
            again = await connection.succeed(
                registration(self.stage.target, name, session=session, token=token)
            )
            return Response(again.status, again.body, response.seconds + again.seconds)
        if response.status != 200:
            raise RequestFailed(f"register: {response.status} {response.body[:300]!r}")
        return response
