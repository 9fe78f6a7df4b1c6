"""`atrium appservice` beside a server that runs. CHECKLIST AS-01."""

from pathlib import Path

import yaml

from tests.support.appservice import FakeService
from tests.support.commands import atrium, configured
from tests.support.server import Server
from tests.support.waiting import until


async def test_services_are_added_listed_looked_at_and_removed(fresh_server: Server, tmp_path: Path) -> None:
    """AS-01: one that is added by command hears and acts at once; mistakes are told in words."""
    assert fresh_server.app is not None
    config = configured(fresh_server, tmp_path)

    async def appservice(*arguments: str, status: int = 0) -> str:
        return await atrium("appservice", *arguments, config=config, status=status)

    async with FakeService(id="late", sender="latebot") as service:
        assert await appservice("list") == "There are none."
        await appservice("add", str(tmp_path / "missing.yaml"), status=1)
        file = tmp_path / "late.yaml"
        file.write_text(yaml.safe_dump(service.registration))
        assert await appservice("add", str(file)) == "late is registered: it acts as @latebot:localhost."
        assert await appservice("add", str(file)) == "late is changed: it acts as @latebot:localhost."
        assert "late: @latebot:localhost, http://127.0.0.1:" in await appservice("list")
        registry = fresh_server.app.features.appservices.registry

        async def known() -> bool:
            return "late" in registry.services

        await until(known, within=30)
        alice = await fresh_server.register("alice")
        room = await alice.create_room(invite=[service.sender_id])
        await service.hears(lambda s: s.events)
        await fresh_server.client.post("/join/{}", room, token=service.as_token)
        await service.hears_event(await alice.send(room, "hello"))

        async def stands() -> bool:
            return "late: takes what it is told" in await appservice("status", "late")

        await until(stands, within=60)
        await appservice("status", "nobody", status=1)
        assert await appservice("remove", "late") == "late is removed."
        assert "no such application service" in await appservice("remove", "late", status=1)

        async def gone() -> bool:
            return "late" not in registry.services

        await until(gone, within=30)
        assert await appservice("list") == "There are none."
