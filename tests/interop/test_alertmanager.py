"""Prometheus' Alertmanager, which nobody here wrote, posts to webhooks in its own format and in Slack's (docs/webhooks.md)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from homeserver.hooks.administration import NewHook
from homeserver.matrix.ids import UserId
from homeserver.wiring.offline import hooks_of
from tests.support.process import free_port
from tests.support.programs import running
from tests.support.server import Server
from tests.support.waiting import until

pytestmark = [pytest.mark.interop, pytest.mark.timeout(90)]


async def test_an_alert_is_said_in_both_formats(server: Server, tmp_path: Path) -> None:
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        pytest.skip("Alertmanager is not installed: apt-get install prometheus-alertmanager")
    assert server.app is not None
    alice = await server.register("alice")
    room = await alice.create_room()
    addresses = []
    async with hooks_of(server.app.config) as administration:
        for name in ("Alertmanager", "Slack"):
            made = await administration.add(NewHook(room, name, UserId(alice.user_id)))
            addresses.append(server.url + made.path)
    config, port = tmp_path / "alertmanager.yaml", free_port()
    receiver: dict[str, Any] = {
        "name": "matrix",
        "webhook_configs": [{"url": addresses[0]}],
        "slack_configs": [{"api_url": addresses[1], "channel": "any", "send_resolved": True}],
    }
    route = {"receiver": "matrix", "group_wait": "0s", "group_interval": "1s"}
    config.write_text(yaml.safe_dump({"route": route, "receivers": [receiver]}))
    url = f"http://127.0.0.1:{port}"
    command = [
        program,
        f"--config.file={config}",
        f"--storage.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.external-url={url}",
        "--cluster.listen-address=",
    ]
    alert = {"labels": {"alertname": "DiskFull", "host": "db1"}, "annotations": {"summary": "Disk is <full>"}}
    log = tmp_path / "alertmanager.log"
    async with running(*command, log=log), aiohttp.ClientSession() as session:

        async def taken() -> bool:
            try:
                async with session.post(f"{url}/api/v2/alerts", json=[alert]) as answer:
                    return answer.status == 200
            except aiohttp.ClientError:
                return False

        await until(taken, within=60, every=0.2)
        own = await alice.sees(
            room, lambda event: "Disk is <full>" in event["content"].get("body", ""), timeout=20
        )
        slack = await alice.sees(room, lambda event: "[FIRING:1]" in said_by(event, own), timeout=20)
    assert own["content"]["body"].startswith("[FIRING:1] DiskFull")
    assert "host=db1" in own["content"]["body"]
    assert "Disk is &lt;full&gt;" in own["content"]["formatted_body"]
    assert slack["content"]["formatted_body"].startswith("<blockquote>")
    assert 'msg="Notify' not in log.read_text()


def said_by(event: dict[str, Any], other: dict[str, Any]) -> str:
    """What an event of another sender says."""
    return "" if event["sender"] == other["sender"] else str(event["content"].get("body", ""))
