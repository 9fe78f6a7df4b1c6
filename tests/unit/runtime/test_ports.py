"""Where a server cannot listen is found out, and said in words, before anything else starts."""

import socket
from pathlib import Path

import pytest

from homeserver.config import Listener
from homeserver.runtime.ports import PortTaken, settle_one


def unix(path: Path) -> Listener:
    return Listener(unix_socket=path)


def test_a_port_the_system_chooses_gets_its_number() -> None:
    assert settle_one(Listener(port=0)).port


def test_a_unix_socket_in_use_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s"
    assert settle_one(unix(path)) == unix(path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(PortTaken, match=f"Another program already listens on {path}"):
            settle_one(unix(path))
    settle_one(unix(path))  # what a killed server has left there is no obstacle


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nowhere/s", "its folder"), ("file", "another kind"), ("x" * 120, "too long"), (".", "another kind")],
)
def test_a_place_where_no_unix_socket_can_be_is_named(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PortTaken, match=reason):
        settle_one(unix(tmp_path / name))
