"""The bytes of an event as they are stored: the same JSON in about half the space.

Most of a state event is names that stand somewhere else already, base64, and words that are the same in all of them. What is
packed begins with a byte that no JSON begins with: what is stored unpacked stays readable. Packing loses nothing, whatever
the event looks like: what is not understood is kept as it is.

Layout: `MARK`, a raw deflate stream (dictionary: `WORDS`) of the JSON with each name replaced by one control character, then
what the names were, in order.
"""

from __future__ import annotations

import binascii
import re
import zlib
from collections.abc import Mapping
from typing import Final

from homeserver.matrix.ids import EventId, RoomId

MARK: Final = b"\x01"
_WINDOW, _MEMORY, _LEVEL = -12, 3, 6

_CITED, _ID, _ROOM, _HASH, _SIGNATURE = b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"
_NAME = re.compile(rb'(?<=")(\$[A-Za-z0-9_-]{43}|[A-Za-z0-9+/]{43}|[A-Za-z0-9+/]{86})(?=")')
_CODE = re.compile(rb"[\x01-\x05]")
_CONTROL = re.compile(rb"[\x00-\x1f]")
_URL_SAFE, _STANDARD = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")

# For ever: what was packed with these words is unpacked with them. Other words need another MARK. Last is cheapest.
WORDS: Final = (
    b'"aliases":["#","alias":"#"m.room.canonical_alias""ban":50,"events":{"m.room.avatar":50,"m.room.encrypted":0,'
    b'"m.room.encryption":100,"m.room.history_visibility":100,"m.room.name":50,"m.room.power_levels":100,'
    b'"m.room.server_acl":100,"m.room.tombstone":100,"m.room.topic":50,"m.space.child":50},"events_default":0,"historical":100,'
    b'"invite":0,"kick":50,"notifications":{"room":50},"redact":50,"state_default":50,"users":{"@":100},"users_default":0}'
    b'"algorithm":"m.megolm.v1.aes-sha2","rotation_period_ms":604800000,"rotation_period_msgs":100'
    b'"type":"m.room.encryption"}"guest_access":"can_join""history_visibility":"shared""join_rule":"restricted",'
    b'"allow":[{"room_id":"!","type":"m.room_membership"}],"join_rule":"invite""join_rule":"public""type":"m.room.join_rules"}'
    b'"room_version":"12""creator":"@"type":"m.room.create"}"url":"mxc://"name":""topic":"","m.topic":{"m.text":[{"body":""}]}'
    b'"type":"m.room.topic"}"via":["m.space.child","m.space.parent""reason":"third_party_invite":{"display_name":""is_direct":true,'
    b'"membership":"invite"},"membership":"leave"},"membership":"ban"},"join_authorised_via_users_server":"'
    b'{"auth_events":["\x02","\x01","\x01","\x01","\x01"],"content":{"avatar_url":"mxc://","displayname":"",'
    b'"membership":"join"},"depth":1,"hashes":{"sha256":"\x04"},"origin_server_ts":17,"prev_events":["\x02"],'
    b'"room_id":"\x03","sender":"@","signatures":{"":{"ed25519:a_":"\x05"}},"state_key":"@","type":"m.room.member"}'
)

_packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY, zlib.Z_DEFAULT_STRATEGY, WORDS)
# To copy a compressor that knows the words is several times cheaper than to teach them to a new one.


def pack(pdu: bytes, room_id: RoomId, cited: Mapping[EventId, int]) -> bytes:
    """The stored form of an event's JSON.

    Args:
        pdu: JSON text; not packed if it contains control characters, which canonical JSON never does.
        room_id: Known wherever the event is read.
        cited: Numbers of events that must be asked for by number when the event is read; not negative.
    """
    if _CONTROL.search(pdu):
        return pdu
    names: list[bytes] = []

    def shorten(match: re.Match[bytes]) -> bytes:
        text: bytes = match[1]
        if text[0] == 0x24:  # $
            nid = cited.get(EventId(text.decode()))
            if nid is not None and nid >= 0:
                names.append(_varint(nid))
                return _CITED
            code, raw = _ID, _bytes_of(text[1:].translate(_STANDARD))
            same = raw is not None and _text_of(raw).translate(_URL_SAFE) == text[1:]
        else:
            code, raw = _HASH if len(text) == 43 else _SIGNATURE, _bytes_of(text)
            same = raw is not None and _text_of(raw) == text
        if raw is None or not same:
            return text
        names.append(raw)
        return code

    text = _NAME.sub(shorten, pdu).replace(b'"%b"' % room_id.encode(), b'"%b"' % _ROOM)
    packer = _packer.copy()
    packed = b"".join((MARK, packer.compress(text), packer.flush(), *names))
    return packed if len(packed) < len(pdu) else pdu


class Opened:
    """A packed event, taken apart."""

    __slots__ = ("_names", "_text")

    def __init__(self, stored: bytes) -> None:
        unpacker = zlib.decompressobj(_WINDOW, WORDS)
        self._text = unpacker.decompress(memoryview(stored)[1:])
        self._names = _read_names(self._text, unpacker.unused_data)

    @property
    def cited(self) -> list[int]:
        """Numbers of the events whose ids are needed to put it together."""
        return [name for name in self._names if isinstance(name, int)]

    def pdu(self, room_id: RoomId, ids: Mapping[int, EventId]) -> bytes:
        """The event's JSON. Of `cited`, what is missing in `ids` becomes an empty name: enough to read anything but the
        event's hash and its links.
        """
        following, room = iter(self._names), room_id.encode()

        def name(match: re.Match[bytes]) -> bytes:
            if match[0] == _ROOM:
                return room
            value = next(following)
            return ids.get(value, EventId("$")).encode() if isinstance(value, int) else value

        return _CODE.sub(name, self._text)


def unpack(stored: bytes, room_id: RoomId, ids: Mapping[int, EventId] | None = None) -> bytes:
    """The JSON of a stored event, packed or not. See `Opened.pdu`."""
    return Opened(stored).pdu(room_id, ids or {}) if stored[:1] == MARK else stored


def _read_names(text: bytes, rest: bytes) -> list[bytes | int]:
    """What the codes in a text stand for, in order, without rooms."""
    names: list[bytes | int] = []
    at = 0
    for code in _CODE.findall(text):
        if code == _CITED:
            number, at = _read_varint(rest, at)
            names.append(number)
        elif code != _ROOM:
            size = 64 if code == _SIGNATURE else 32
            encoded = _text_of(rest[at : at + size])
            names.append(b"$" + encoded.translate(_URL_SAFE) if code == _ID else encoded)
            at += size
    return names


def _bytes_of(text: bytes) -> bytes | None:
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        return None


def _text_of(raw: bytes) -> bytes:
    return binascii.b2a_base64(raw, newline=False).rstrip(b"=")


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
