"""Uploads pass the policy gate when their bytes are here, and before anything is kept."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from homeserver.matrix.errors import Forbidden
from homeserver.policy.gate import Gate
from homeserver.policy.types import ALLOW, Act, Check, Kind, Refuse, Verdict
from tests.conftest import StartServer
from tests.integration.media.conftest import UPLOAD, upload
from tests.support.server import Server


async def test_a_check_may_refuse_an_upload_by_its_bytes(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, folder_of: Callable[[Server], Path]
) -> None:
    seen: list[Act] = []

    async def decide(act: Act) -> Verdict:
        seen.append(act)
        assert act.file is not None
        return Refuse(Forbidden("No secrets here")) if b"secret" in act.file.read_bytes() else ALLOW

    mine = Check(name="test.uploads", kinds={Kind.UPLOAD}, decide=decide, when_failing="refuse")
    install = Gate.install

    def with_mine(gate: Gate, checks: Iterable[Check]) -> None:
        install(gate, [*checks, mine])

    monkeypatch.setattr(Gate, "install", with_mine)
    server = await start_server()
    alice = await server.register("alice")
    assert await upload(alice, b"harmless", filename="a.txt")
    answer = await alice.post(UPLOAD, data=b"a secret", headers={"Content-Type": "text/plain"}, expect=403)
    assert (answer["errcode"], answer["error"]) == ("M_FORBIDDEN", "No secrets here")
    assert [act.actor for act in seen] == [alice.user_id] * 2
    assert seen[0].content["filename"] == "a.txt"
    assert seen[0].content["size"] == len(b"harmless")
    kept = [path for path in (folder_of(server) / "content").rglob("*") if path.is_file()]
    assert len(kept) == 1
    assert not [path for path in (folder_of(server) / "incoming").rglob("*") if path.is_file()]
