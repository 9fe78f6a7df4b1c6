"""The bots of docs/bots/, and the one that `atrium bot new` writes."""

import importlib.util
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from aiohttp import web

from appservices.bots import NotConfigured, registration, scaffold
from appservices.bots.testing import BotTest

DOCS = Path(__file__).parents[3] / "docs" / "bots"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_bots_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_the_bot_of_twenty_lines() -> None:
    assert len((DOCS / "hello.py").read_text().splitlines()) <= 20
    async with BotTest(load("hello").bot) as test:
        assert [each.body for each in await test.say("!hello Anna")] == [
            "Hello, **Anna**! That was greeting 1 in this room."
        ]
        await test.restart()
        assert "greeting 2" in (await test.say("!hello"))[0].body


@pytest.fixture
async def model(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[object]]:
    asked: list[object] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(await request.json())
        response = web.StreamResponse()
        await response.prepare(request)
        for word in ("It ", "is ", "**42**."):
            await response.write(f'data: {{"choices":[{{"delta":{{"content":"{word}"}}}}]}}\n\n'.encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    monkeypatch.setenv("MODEL_URL", f"http://{host}:{port}/v1")
    yield asked
    await runner.cleanup()


async def test_the_assistant_streams_two_events_and_remembers(model: list[object]) -> None:
    async with BotTest(load("assistant").bot) as test:
        first, edit = await test.say("assistant: what is it?")
        assert first.body == "…"
        assert edit.content["m.new_content"]["formatted_body"] == "It is <strong>42</strong>."
        await test.say("assistant: sure?")
        assert [each["content"] for each in model[1]["messages"]] == ["what is it?", "It is **42**.", "sure?"]  # type: ignore[index]
        await test.say("!forget")
        await test.say("assistant: and?")
        assert len(model[2]["messages"]) == 1  # type: ignore[index]


def test_a_new_bot_runs_and_its_test_passes(tmp_path: Path) -> None:
    folder = tmp_path / "tea-time"
    command = [
        str(Path(sys.executable).with_name("atrium")),
        "bot",
        "new",
        "tea-time",
        "--folder",
        str(folder),
    ]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert f"atrium appservice add {folder}/registration.yaml" in said
    assert (folder / "registration.yaml").stat().st_mode & 0o077 == 0
    found = registration.read(folder / "registration.yaml")
    assert found.sender_localpart == found.id == "tea-time"
    assert len({found.as_token, found.hs_token}) == 2
    tested = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-c",
            "/dev/null",
            "--rootdir",
            str(folder),
            str(folder),
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert "2 passed" in tested.stdout, tested.stdout + tested.stderr
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (1, f"{folder} is not empty\n")


def test_what_cannot_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured):
        scaffold.write("No such name", tmp_path / "x", "http://127.0.0.1:1")
    path = tmp_path / "registration.yaml"
    for text in ("[", "[]", yaml.safe_dump({"id": "x", "url": None})):
        path.write_text(text)
        with pytest.raises(NotConfigured):
            registration.read(path)
    with pytest.raises(NotConfigured):
        registration.read(tmp_path / "absent.yaml")
