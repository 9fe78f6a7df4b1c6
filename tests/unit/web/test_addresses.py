"""What outgoing connections may reach, and whose word about a client's address is believed."""

import pytest
from multidict import CIMultiDict

from homeserver.web.addresses import AddressPolicy, AddressRefused, client_network
from homeserver.web.proxies import TrustedProxies

PUBLIC = [
    "1.1.1.1",
    "93.184.216.34",
    "2606:4700:4700::1111",
    "::ffff:1.1.1.1",
    "64:ff9b::101:101",
    "172.15.0.1",
    "172.32.0.1",
]
PRIVATE = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1",
    "2002:7f00:1::", "2002:a00:1::1", "2001::1", "localhost", "", "0x7f.1", "2130706433", "127.1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_may_be_reached(address: str) -> None:
    assert AddressPolicy().permits(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_nothing_else_may(address: str) -> None:
    """MEDIA-13"""
    assert not AddressPolicy().permits(address)
    with pytest.raises(AddressRefused):
        AddressPolicy().require(address)


def test_what_the_administrator_names_may_be_reached_and_no_more() -> None:
    policy = AddressPolicy(["10.0.0.0/8", "::1/128"])
    assert [policy.permits(a) for a in ("10.9.9.9", "::1", "::ffff:10.0.0.1", "1.1.1.1")] == [True] * 4
    assert [policy.permits(a) for a in ("127.0.0.1", "192.168.1.1", "fe80::1")] == [False] * 3


def client(peer: str, *, networks: tuple[str, ...] = (), **headers: str) -> tuple[str, str]:
    found = CIMultiDict((name.replace("_", "-"), value) for name, value in headers.items())
    return TrustedProxies(networks).client_of(peer, "http", found)


@pytest.mark.parametrize(
    ("peer", "told", "believed"),
    [
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7:1234", "198.51.100.7"),
        ("10.0.0.1", "[2001:db8::1]:1234", "2001:db8::1"),
        ("10.0.0.1", "2001:DB8::1", "2001:db8::1"),
        ("10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "10.0.0.3", "10.0.0.3"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7, unknown", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", ", ".join(["10.0.0.9"] * 1000), "10.0.0.9"),
    ],
)
def test_the_client_is_the_last_address_that_is_no_proxy_of_ours(peer: str, told: str, believed: str) -> None:
    assert client(peer, networks=("10.0.0.0/8",), x_forwarded_for=told)[0] == believed


@pytest.mark.parametrize(
    ("peer", "told", "scheme"),
    [("10.0.0.1", "https", "https"), ("10.0.0.1", "ftp", "http"), ("192.0.2.1", "https", "http")],
)
def test_the_scheme_is_believed_from_proxies_alone(peer: str, told: str, scheme: str) -> None:
    assert client(peer, networks=("10.0.0.0/8",), x_forwarded_proto=told)[1] == scheme


def test_nobody_is_believed_unless_told_so() -> None:
    assert client("127.0.0.1", x_forwarded_for="198.51.100.7")[0] == "127.0.0.1"


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        TrustedProxies(["nonsense"])


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:c000:207", "192.0.2.7"),
        ("2002:c000:207::1", "192.0.2.7"),
        ("2001:db8:77:2::1", "2001:db8:77:2::/64"),
        ("2001:DB8:77:2:ffff:ffff:ffff:ffff", "2001:db8:77:2::/64"),
        ("2001:db8:77:3::1", "2001:db8:77:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_whoever_has_a_64_is_one_client(address: str, client: str) -> None:
    """RFC 6177: a site has at least that much, so its addresses are free to change."""
    assert client_network(address) == client
