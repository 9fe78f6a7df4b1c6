"""As much of STUN and TURN as it takes to be let in and to be relayed. spec: RFC 8489, RFC 8656"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
import struct
from dataclasses import dataclass, field
from typing import Final

COOKIE: Final = 0x2112A442
ALLOCATE, CREATE_PERMISSION, SEND, DATA = 0x0003, 0x0008, 0x0016, 0x0017
USERNAME, MESSAGE_INTEGRITY, ERROR_CODE, DATA_ATTRIBUTE = 0x0006, 0x0008, 0x0009, 0x0013
XOR_PEER_ADDRESS, REALM, NONCE, XOR_RELAYED_ADDRESS, REQUESTED_TRANSPORT = (
    0x0012,
    0x0014,
    0x0015,
    0x0016,
    0x0019,
)
_INDICATION, _ERROR, _ANSWER = 0x0010, 0x0110, 0x0100
_UDP: Final = struct.pack("!BBBB", 17, 0, 0, 0)

Attributes = dict[int, bytes]
Address = tuple[str, int]


class Refused(Exception):
    """The TURN server has said no: the code of its error."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + b"\0" * (-len(value) % 4)


def _message(kind: int, transaction: bytes, attributes: bytes, key: bytes | None = None) -> bytes:
    def head(length: int) -> bytes:
        return struct.pack("!HHI", kind, length, COOKIE) + transaction

    if key is None:
        return head(len(attributes)) + attributes
    sealed = hmac.digest(key, head(len(attributes) + 24) + attributes, "sha1")
    return head(len(attributes) + 24) + attributes + _attribute(MESSAGE_INTEGRITY, sealed)


def _parse(message: bytes) -> tuple[int, bytes, Attributes]:
    kind, length, _ = struct.unpack_from("!HHI", message)
    found: Attributes = {}
    at = 20
    while at < 20 + length:
        name, size = struct.unpack_from("!HH", message, at)
        found.setdefault(name, message[at + 4 : at + 4 + size])
        at += 4 + size + -size % 4
    return kind, message[8:20], found


def _hidden(address: Address) -> bytes:
    ip = int.from_bytes(socket.inet_aton(address[0]), "big")
    return struct.pack("!BBHI", 0, 1, address[1] ^ (COOKIE >> 16), ip ^ COOKIE)


def _shown(value: bytes) -> Address:
    _, _, port, ip = struct.unpack("!BBHI", value)
    return socket.inet_ntoa((ip ^ COOKIE).to_bytes(4, "big")), port ^ (COOKIE >> 16)


@dataclass
class TurnClient:
    """One person's way through a TURN server, over UDP. Blocks; raises `TimeoutError` where nothing is answered."""

    server: Address
    username: str
    password: str
    realm: bytes = b""
    nonce: bytes = b""
    udp: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    def __post_init__(self) -> None:
        self.udp.settimeout(1)

    def allocate(self) -> Address:
        """The address at which one is relayed. Raises `Refused`."""
        try:
            found = self._ask(ALLOCATE, _attribute(REQUESTED_TRANSPORT, _UDP))
        except Refused as refused:
            if refused.code != 401 or not self.nonce:
                raise
            found = self._ask(ALLOCATE, _attribute(REQUESTED_TRANSPORT, _UDP))
        return _shown(found[XOR_RELAYED_ADDRESS])

    def let(self, peer: Address) -> None:
        """What this peer sends is passed on. Raises `Refused`."""
        self._ask(CREATE_PERMISSION, _attribute(XOR_PEER_ADDRESS, _hidden(peer)))

    def send(self, peer: Address, data: bytes) -> None:
        """By way of the server."""
        attributes = _attribute(XOR_PEER_ADDRESS, _hidden(peer)) + _attribute(DATA_ATTRIBUTE, data)
        self.udp.sendto(_message(SEND, secrets.token_bytes(12), attributes), self.server)

    def receive(self) -> bytes:
        """What a peer has sent."""
        while True:
            kind, _, found = _parse(self.udp.recv(4096))
            if kind == DATA:
                return found[DATA_ATTRIBUTE]

    def _ask(self, kind: int, attributes: bytes) -> Attributes:
        transaction, key = secrets.token_bytes(12), None
        if self.nonce:
            # RFC 8489, 9.2.2: the key of long-term credentials
            text = self.username.encode() + b":" + self.realm + b":" + self.password.encode()
            key = hashlib.md5(text, usedforsecurity=False).digest()
            attributes += _attribute(USERNAME, self.username.encode())
            attributes += _attribute(REALM, self.realm) + _attribute(NONCE, self.nonce)
        message = _message(kind, transaction, attributes, key)
        for _ in range(20):
            self.udp.sendto(message, self.server)
            try:
                while True:
                    answered, of, found = _parse(self.udp.recv(4096))
                    if of == transaction and answered in {kind | _ANSWER, kind | _ERROR}:
                        break
            except TimeoutError:
                continue
            if answered == kind | _ANSWER:
                return found
            code = found[ERROR_CODE][2] * 100 + found[ERROR_CODE][3]
            had = bool(self.nonce)
            self.realm, self.nonce = found.get(REALM, self.realm), found.get(NONCE, b"") if not had else b""
            raise Refused(code)
        raise TimeoutError("the TURN server does not answer")
