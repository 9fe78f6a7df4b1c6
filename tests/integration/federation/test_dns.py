"""SRV records, asked of a name server on the loopback address."""

import asyncio
from collections.abc import AsyncIterator

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from federation.transport.srv import DnsLookup, LookupFailed, Record


class NameServer(asyncio.DatagramProtocol):
    """Answers by name; what it does not know is NXDOMAIN."""

    def __init__(self) -> None:
        self.zone: dict[str, list[str]] = {}
        self.broken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        name = question.question[0].name.to_text()
        if self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif name in self.zone:
            if self.zone[name]:
                answer.answer.append(dns.rrset.from_text_list(name, 1234, "IN", "SRV", self.zone[name]))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), addr)  # type: ignore[attr-defined]


@pytest.fixture
async def name_server() -> AsyncIterator[NameServer]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    server.port = transport.get_extra_info("sockname")[1]
    yield server
    transport.close()


@pytest.fixture
def lookup(name_server: NameServer) -> DnsLookup:
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = name_server.port
    return DnsLookup(resolver)


NAME = "_matrix-fed._tcp.one.example"


async def test_records(name_server: NameServer, lookup: DnsLookup) -> None:
    """DISC-04"""
    name_server.zone = {NAME + ".": ["10 5 8448 A.host.example.", "20 0 443 ."]}
    found = await lookup.srv(NAME)
    assert sorted(found.records) == [Record(10, 5, 8448, "A.host.example"), Record(20, 0, 443, "")]
    assert found.ttl == 1234


async def test_none(name_server: NameServer, lookup: DnsLookup) -> None:
    name_server.zone = {"_matrix-fed._tcp.two.example.": []}
    for name in (NAME, "_matrix-fed._tcp.two.example"):
        assert not (await lookup.srv(name)).records


async def test_dns_that_is_broken_or_silent(name_server: NameServer, lookup: DnsLookup) -> None:
    name_server.broken = True
    with pytest.raises(LookupFailed):
        await lookup.srv(NAME)
    for name in ("a" * 70 + ".example", "a..example", "x." * 200 + "example"):
        with pytest.raises(LookupFailed):
            await lookup.srv(name)
