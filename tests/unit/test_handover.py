"""What was just journalled goes to the splitter of the same process, as long as that can begin on it in time."""

import datetime

import pytest

from waemitter.inbox.journal.handover import FRESH, MOST, MOST_BYTES, LocalHandover
from waemitter.inbox.journal.records import Entry
from waemitter.inbox.store import Webhook

LEASE = datetime.timedelta(seconds=15)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def entries(count: int, body: bytes = b"{}") -> list[Entry]:
    return [Entry("whatsapp", body, "{}") for _ in range(count)]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def handover(clock):
    return LocalHandover(lease=LEASE, clock=clock)


def test_what_is_taken_comes_out_in_its_order_as_claimed_once(handover):
    assert handover.room(entries(3)) == LEASE
    handover.take([7, 8, 9], entries(3))
    assert [webhook.id for webhook in handover.next(2)] == [7, 8]
    assert handover.next(2) == [Webhook(9, "whatsapp", b"{}", 1)]
    assert handover.next(2) == []


def test_it_is_bounded_in_number(handover):
    handover.take(range(MOST - 1), entries(MOST - 1))
    assert handover.room(entries(1)) == LEASE
    assert handover.room(entries(2)) is None
    handover.next(MOST)
    assert handover.room(entries(2)) == LEASE


def test_it_is_bounded_in_bytes(handover):
    handover.take([1], entries(1, bytes(MOST_BYTES + 1)))
    assert handover.room(entries(1)) is None
    handover.next(1)
    assert handover.room(entries(1)) == LEASE


def test_what_has_waited_too_long_is_left_to_others(handover, clock):
    handover.take([1], entries(1))
    clock.now = LEASE.total_seconds() * FRESH / 2
    handover.take([2], entries(1))
    clock.now = LEASE.total_seconds() * FRESH
    assert [webhook.id for webhook in handover.next(10)] == [2]


def test_once_closed_it_takes_no_more_and_gives_out_what_waits(handover):
    handover.take([1, 2], entries(2))
    assert [webhook.id for webhook in handover.close()] == [1, 2]
    assert handover.room(entries(1)) is None


def test_once_closed_it_gives_out_what_two_commits_at_once_found_room_for(handover):
    assert handover.room(entries(MOST)) == LEASE
    assert handover.room(entries(1)) == LEASE
    handover.take(range(MOST), entries(MOST))
    handover.take([MOST], entries(1))
    assert len(handover.close()) == MOST + 1


def test_what_is_of_another_source_finds_no_room(handover):
    assert handover.room([*entries(2), Entry("chatwoot", b"{}", "{}")]) is None
    assert handover.room(entries(2)) == LEASE
