"""Uploading in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Expected
from tests.support.server import Server
from tests.support.user import User

DOWNLOAD = "/_matrix/client/v1/media/download/{}/{}"
THUMBNAIL = "/_matrix/client/v1/media/thumbnail/{}/{}"
FROZEN = "/_matrix/media/v3/download/{}/{}"
UPLOAD = "/_matrix/media/v3/upload"


def parts(uri: str) -> tuple[str, str]:
    """Server name and media ID of an mxc:// URI."""
    server_name, _, media_id = uri.removeprefix("mxc://").partition("/")
    return server_name, media_id


async def upload(
    user: User,
    data: bytes = b"hello",
    content_type: str | None = "text/plain",
    filename: str | None = None,
    *,
    expect: Expected = 200,
    **options: Any,
) -> str:
    """Uploads; the mxc:// URI ("" when refused)."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = await user.post(
        UPLOAD, data=data, headers=headers, params={"filename": filename}, expect=expect, **options
    )
    return str(answer.get("content_uri", ""))


@pytest.fixture
def folder_of() -> Callable[[Server], Path]:
    """Where a server of this process keeps files."""

    def find(server: Server) -> Path:
        assert server.app is not None
        return server.app.config.server.data_dir / "media"

    return find
