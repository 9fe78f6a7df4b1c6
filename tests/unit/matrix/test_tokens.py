"""Tokens of sync and pagination."""

import pytest

from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.tokens import SyncToken, format_sync_token, format_token, parse_sync_token, parse_token


@pytest.mark.parametrize("position", [0, 1, -7, 10**18 - 1])
def test_api_19_what_was_given_is_understood(position: int) -> None:
    assert parse_token(format_token(position), "from") == position
    assert parse_sync_token(format_token(position), "since") == SyncToken(position, position)


def test_a_sync_token_says_how_far_to_device_messages_were_given() -> None:
    for token in (SyncToken(9, 4), SyncToken(9, 9), SyncToken(9, 4, 0), SyncToken(9, 9, 7)):
        assert parse_sync_token(format_sync_token(token), "since") == token
    assert parse_token(format_sync_token(SyncToken(9, 4)), "from") == 9


@pytest.mark.parametrize(
    "token",
    [
        "",
        "s",
        "9",
        "s9x",
        "s 9",
        "s9_",
        "s--9",
        "s9\n",
        "s" + "9" * 19,
        "s\u0669",
        "t9",
        "s9_-1",
        "s9_9_",
        "s9_9_9_9",
        "\0",
    ],
)
def test_api_20_a_foreign_token_is_refused_by_name(token: str) -> None:
    with pytest.raises(InvalidParam, match="since"):
        parse_sync_token(token, "since")
