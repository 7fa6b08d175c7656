"""A webhook as it lies on disk: a mark, its length, its checksum, a line of facts, the body.

The end of a file may be torn, since a crash can come at any byte. What cannot be read is skipped up to the next record that can.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

MARK: Final = b"\xf5wae"  # its first byte begins no text
HEAD: Final = struct.Struct(">4sII")  # mark, bytes that follow, their CRC-32
LARGEST: Final = 64 * 1024 * 1024
"""Bytes. A length beyond it is no length."""


class Entry(NamedTuple):
    """A body as it came; `headers` is JSON text, of the headers worth keeping."""

    source: str
    body: bytes
    headers: str


class Spooled(NamedTuple):
    """An entry, and when it came (seconds since the epoch, by this machine's clock).

    `after`: it may be in the table as well, since its commit was never answered; then in a row of a higher id than this.
    """

    entry: Entry
    received: float
    after: int | None


class Found(NamedTuple):
    """A record, and where in the file the next one begins."""

    record: Spooled
    end: int


class Reading(NamedTuple):
    """`skipped`: unreadable bytes before a record that can be read; `torn`: those at the end."""

    found: Sequence[Found]
    skipped: int
    torn: int


def encode(spooled: Spooled) -> bytes:
    entry = spooled.entry
    facts = orjson.dumps([entry.source, entry.headers, spooled.received, spooled.after])
    content = facts + b"\n" + entry.body  # JSON on one line holds no line break
    return HEAD.pack(MARK, len(content), zlib.crc32(content)) + content


def decode(data: bytes) -> Reading:
    """Read all that can be read."""
    found: list[Found] = []
    at = skipped = 0
    while at < len(data):
        record = _record(data, at)
        if record is not None:
            found.append(record)
            at = record.end
            continue
        after = _next(data, at + 1)
        if after is None:
            return Reading(found, skipped, len(data) - at)
        skipped += after - at
        at = after
    return Reading(found, skipped, 0)


def _next(data: bytes, start: int) -> int | None:
    """Where the next readable record begins."""
    at = data.find(MARK, start)
    while at >= 0:
        if _record(data, at) is not None:
            return at
        at = data.find(MARK, at + 1)
    return None


def _record(data: bytes, at: int) -> Found | None:
    start = at + HEAD.size
    if len(data) < start:
        return None
    mark, length, checksum = HEAD.unpack_from(data, at)
    content = data[start : start + length] if mark == MARK and length <= LARGEST else b""
    if len(content) != length or zlib.crc32(content) != checksum:
        return None
    facts, line_break, body = content.partition(b"\n")
    if not line_break:
        return None
    source, headers, received, after = orjson.loads(facts)
    return Found(Spooled(Entry(source, body, headers), received, after), start + length)
