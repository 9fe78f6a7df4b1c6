from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support import mailbox as support_mailbox
from tests.support.identity import IdentityServer
from tests.support.identity_fixtures import server, start  # noqa: F401  # fixtures
from tests.support.mailbox import Mailbox

BASE = "https://matrix.test"


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with support_mailbox.running() as running:
        yield running


def mail_section(mailbox: Mailbox, **more: Any) -> dict[str, Any]:
    return {
        "host": "127.0.0.1",
        "port": mailbox.port,
        "security": "none",
        "sender": "Atrium <noreply@matrix.test>",
        **more,
    }


@pytest.fixture
async def mailing(start: Any, mailbox: Mailbox) -> IdentityServer:  # noqa: F811  # the fixture
    """A server that sends mail, where people register with an address."""
    return await start(
        server={"name": "localhost", "public_baseurl": BASE},
        mail=mail_section(mailbox),
        registration={"flows": [["email"], ["dummy"]]},
    )
