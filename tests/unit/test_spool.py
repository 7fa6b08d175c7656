"""The spool: what was told to be on disk is found there, whatever happened to the end of the file."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.errors import UsageError
from waemitter.inbox.journal import spool as spool_module
from waemitter.inbox.journal.records import Entry, Spooled, decode, encode
from waemitter.inbox.journal.spool import Spool, SpoolFull

PLENTY = 1 << 30


def record(body: bytes, *, after: int | None = None) -> Spooled:
    return Spooled(Entry("whatsapp", body, '{"user-agent":"x"}'), 1795300000.25, after)


def bodies(data: bytes) -> list[bytes]:
    return [found.record.entry.body for found in decode(data).found]


records = st.lists(
    st.builds(record, st.binary(max_size=200), after=st.none() | st.integers(0, 2**60)), max_size=8
)


@given(records)
def test_what_was_written_is_what_is_read(written: Sequence[Spooled]) -> None:
    reading = decode(b"".join(map(encode, written)))
    assert [found.record for found in reading.found] == written
    assert (reading.skipped, reading.torn) == (0, 0)


@given(records, st.data())
def test_a_torn_end_costs_nothing_of_what_is_before_it(
    written: Sequence[Spooled], data: st.DataObject
) -> None:
    whole = b"".join(map(encode, written))
    cut = data.draw(st.integers(0, len(whole)))
    reading = decode(whole[:cut])
    kept = len(reading.found)
    assert [found.record for found in reading.found] == written[:kept]
    assert reading.torn == cut - (reading.found[-1].end if kept else 0)
    assert cut < len(whole) or kept == len(written)


@given(st.binary(max_size=50), st.integers(0, 7))
def test_a_byte_that_rots_costs_the_record_it_is_in(noise: bytes, bit: int) -> None:
    first, second, third = (encode(record(body)) for body in (b"1" + noise, b"2" + noise, b"3"))
    for at in range(len(second)):
        rotten = bytearray(second)
        rotten[at] ^= 1 << bit
        reading = decode(first + bytes(rotten) + third)
        assert [found.record.entry.body for found in reading.found] == [b"1" + noise, b"3"]
        assert (reading.skipped, reading.torn) == (len(second), 0)


def test_the_body_of_a_webhook_that_looks_like_a_record_is_a_body() -> None:
    inner = encode(record(b"inner"))
    assert bodies(encode(record(inner)) + encode(record(b"next"))) == [inner, b"next"]


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


async def opened(directory: Path, *, most_bytes: int = PLENTY) -> Spool:
    spool = Spool(directory, most_bytes=most_bytes)
    await spool.open()
    return spool


async def contents(spool: Spool) -> list[bytes]:
    """Drain it."""
    found: list[bytes] = []
    while oldest := await spool.oldest():
        segment, reading = oldest
        found += [each.record.entry.body for each in reading.found]
        await spool.remove(segment)
    return found


async def keep(spool: Spool, *texts: str) -> None:
    await spool.append([encode(record(text.encode())) for text in texts])


async def test_what_is_appended_comes_back_in_order_and_files_go_when_they_are_drained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT", 150)
    spool = await opened(tmp_path / "new" / "spool")
    for n in range(10):
        await keep(spool, f"{n}a", f"{n}b")
    assert len(files(tmp_path / "new" / "spool")) > 2
    assert await contents(spool) == [f"{n}{half}".encode() for n in range(10) for half in "ab"]
    assert spool.empty
    assert spool.size == 0
    assert files(tmp_path / "new" / "spool") == []


async def test_a_file_that_is_drained_is_not_appended_to(tmp_path: Path) -> None:
    spool = await opened(tmp_path)
    await keep(spool, "early")
    oldest = await spool.oldest()
    await keep(spool, "late")
    assert oldest is not None
    assert len(oldest[1].found) == 1
    await spool.remove(oldest[0])
    assert await contents(spool) == [b"late"]


async def test_what_a_dead_daemon_left_is_taken_over_and_what_a_living_one_holds_is_not(
    tmp_path: Path,
) -> None:
    dead, living = await opened(tmp_path), await opened(tmp_path)
    await keep(dead, "left")
    await keep(living, "held")
    heir = await opened(tmp_path)
    assert heir.empty
    dead.close()
    await heir.adopt()
    assert await contents(heir) == [b"left"]
    assert await contents(living) == [b"held"]


async def test_a_file_with_a_torn_end_is_drained_as_far_as_it_goes(tmp_path: Path) -> None:
    spool = await opened(tmp_path)
    await keep(spool, "one", "two")
    spool.close()
    [path] = files(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    heir = await opened(tmp_path)
    oldest = await heir.oldest()
    assert oldest is not None
    assert [found.record.entry.body for found in oldest[1].found] == [b"one"]
    assert oldest[1].torn > 0
    await heir.put_aside(oldest[0])
    assert heir.empty
    assert [each.suffix for each in files(tmp_path)] == [".damaged"]


async def test_it_holds_no_more_than_it_may(tmp_path: Path) -> None:
    spool = await opened(tmp_path, most_bytes=300)
    await keep(spool, "a" * 100)
    with pytest.raises(SpoolFull, match="SPOOL_MAX_BYTES"):
        await keep(spool, "b" * 200)
    assert await contents(spool) == [b"a" * 100]
    await keep(spool, "b" * 200)


async def test_a_full_disk_keeps_nothing_of_the_batch_and_all_of_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await opened(tmp_path)
    await keep(spool, "before")
    written: list[int] = []
    real = os.write

    def full(descriptor: int, data: memoryview) -> int:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(real(descriptor, data[:10]))
        return written[0]

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(SpoolFull, match="No space left"):
            await keep(spool, "lost")
    assert written == [10]
    await keep(spool, "after")
    assert await contents(spool) == [b"before", b"after"]


async def test_a_disk_that_is_full_from_the_first_byte_leaves_no_spool_that_never_empties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await opened(tmp_path)

    def full(_descriptor: int, _data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(SpoolFull):
            await keep(spool, "lost")
    async with asyncio.timeout(5):
        await spool.filled.wait()  # so the drainer is told, and clears up
    assert await contents(spool) == []
    assert spool.empty


async def test_a_directory_that_cannot_be_is_a_usage_error_that_names_the_setting(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="WAEMITTER_INBOX__SPOOL_DIR"):
        await opened(tmp_path / "file" / "spool")
