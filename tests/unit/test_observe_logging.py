import asyncio
import errno
import io
import json
import logging
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from structlog.contextvars import bound_contextvars
from typing_extensions import override

from tests.observing import observing
from tests.support import eventually
from waemitter.errors import UsageError
from waemitter.observe.logging import configure


class Terminal(io.TextIOWrapper):
    @override
    def isatty(self):
        return True


class FullDisk(io.BytesIO):
    @override
    def write(self, _data):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_line_is_one_json_object_with_the_fixed_keys_first():
    with observing() as observed:
        observed.log.info("A_THING_HAPPENED", channel="default", note="two\nlines", msg="Happened")
    (text,) = observed.text().splitlines()
    line = json.loads(text)
    assert list(line) == ["timestamp", "level", "event", "channel", "note", "msg"]
    assert (line["level"], line["event"]) == ("info", "A_THING_HAPPENED")


def test_the_timestamp_is_utc():
    with observing() as observed:
        observed.log.info("A_THING_HAPPENED", msg="Happened")
    timestamp = observed.lines()[0]["timestamp"]
    assert timestamp.endswith("Z")
    age = datetime.now(UTC) - datetime.fromisoformat(timestamp)
    assert timedelta(0) <= age < timedelta(minutes=1)


def test_lines_below_the_level_are_not_written():
    with observing("warning") as observed:
        observed.log.info("ROUTINE", msg="Nothing")
        observed.log.warning("NOT_ROUTINE", msg="Something")
        logging.getLogger("aiohttp").info("nothing")
    assert [line["event"] for line in observed.lines()] == ["NOT_ROUTINE"]


def test_the_context_of_a_request_is_merged_and_its_own_value_wins():
    with observing() as observed, bound_contextvars(correlation_id="outer"):
        observed.log.info("FIRST", msg="-")
        observed.log.info("SECOND", correlation_id="inner", msg="-")
    assert [line["correlation_id"] for line in observed.lines()] == ["outer", "inner"]


def test_a_librarys_record_takes_the_same_road_and_is_masked():
    with observing() as observed:
        try:
            int("number 14155550123")
        except ValueError:
            logging.getLogger("aiohttp.client").exception("sending to %s", "+4915112345678")
    (line,) = observed.lines("LIBRARY_LOGGED")
    assert line["logger"] == "aiohttp.client"
    assert line["level"] == "error"
    assert line["msg"] == "sending to [redacted]"
    assert (
        "ValueError: invalid literal for int() with base 10: 'number [redacted]'"
        in line["exception"]
    )


def test_a_librarys_odd_level_is_rounded_down():
    with observing() as observed:
        logging.getLogger("odd").log(25, "between")
        logging.getLogger("odd").log(99, "beyond")
    assert [line["level"] for line in observed.lines()] == ["info", "critical"]


def test_configuring_twice_writes_a_librarys_record_once():
    with observing() as first:
        configure(level="info", format="json", stream=first.stream)
        logging.getLogger("asyncpg").warning("once")
    assert len(first.lines()) == 1


def test_what_json_cannot_say_is_escaped_rather_than_lost():
    with observing() as observed:
        observed.log.info("ODD", text="\ud800", number=2**70, msg="-")
    (line,) = observed.lines()
    assert line["text"] == "\ud800"
    assert line["number"] == 2**70


def test_a_stream_that_fails_costs_its_lines_only():
    with observing():
        for stream in (io.TextIOWrapper(FullDisk()), io.TextIOWrapper(io.BytesIO())):
            log = configure(level="info", format="json", stream=stream)
            if not isinstance(stream.buffer, FullDisk):
                stream.close()
            log.info("LOST", msg="-")


def test_a_terminal_gets_sentences_and_anything_else_json():
    with observing():
        raw = io.BytesIO()
        terminal = Terminal(raw)
        configure(level="info", format="auto", stream=terminal).info("AN_EVENT", msg="It happened")
        text = raw.getvalue().decode()
        assert text.index("It happened") < text.index("AN_EVENT")
        piped = io.BytesIO()
        stream = io.TextIOWrapper(piped)
        configure(level="info", format="auto", stream=stream).info("AN_EVENT", msg="It happened")
        assert json.loads(piped.getvalue())["msg"] == "It happened"


def test_the_console_masks_too():
    with observing(log_format="console") as observed:
        observed.log.info("AN_EVENT", reason="14155550123", msg="It happened")
    assert "14155550123" not in observed.text()
    assert "[redacted]" in observed.text()


def test_structlogs_own_logger_is_configured_alike():
    with observing() as observed:
        structlog.get_logger().info("AN_EVENT", msg="It happened")
    assert len(observed.lines("AN_EVENT")) == 1


@pytest.mark.parametrize(
    ("level", "log_format", "named"), [("loud", "json", "'loud'"), ("info", "xml", "'xml'")]
)
def test_an_unknown_level_or_format_is_a_usage_error_that_names_it(level, log_format, named):
    with pytest.raises(UsageError, match=named):
        configure(level=level, format=log_format)


class SystemCalls(io.RawIOBase):
    def __init__(self):
        self.written = []

    @override
    def writable(self):
        return True

    @override
    def write(self, data):
        self.written.append(bytes(data))
        return len(data)


async def test_under_load_many_lines_leave_with_one_system_call_and_none_is_left_behind():
    calls = SystemCalls()
    with observing():
        stream = io.TextIOWrapper(io.BufferedWriter(calls))
        log = configure(level="info", format="json", stream=stream)
        log.info("FIRST", msg="-")
        await eventually(lambda: calls.written)
        for _ in range(20):
            log.info("NEXT", msg="-")
            await asyncio.sleep(0)
        await eventually(lambda: b"".join(calls.written).count(b"NEXT") == 20)
    assert len(calls.written) < 10
