"""How much of a process each client has at once."""

from homeserver.web.clients import Clients


def test_a_client_has_so_many_and_no_more() -> None:
    clients = Clients(2)
    first, second = clients.enter("2001:db8::1"), clients.enter("2001:db8::2")
    assert first is not None
    assert second is not None
    assert clients.enter("2001:db8::3") is None
    assert clients.enter("2001:db8:0:1::3") is not None
    clients.leave(first)
    assert clients.enter("2001:db8::3") is not None


def test_nothing_is_kept_of_who_has_gone() -> None:
    clients = Clients(None)
    entered = [clients.enter(f"192.0.2.{number % 250}") for number in range(1_000)]
    assert len(clients) == 250
    for client in entered:
        assert client is not None
        clients.leave(client)
    assert len(clients) == 0
