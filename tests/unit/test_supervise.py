"""Services side by side: who ends, who crashes, and what a stop means in every phase."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from waemitter.runtime import lag
from waemitter.runtime.supervise import ServiceExited, Stop, supervise

LONG = 60.0


async def until_stopped(stop: Stop) -> None:
    await stop.requested.wait()


async def never_ending(stop: Stop) -> None:
    del stop
    await asyncio.Event().wait()


def press(times: int, number: signal.Signals = signal.SIGTERM):
    """A service that sends us a signal, and again as soon as the one before was understood."""

    async def service(stop: Stop) -> None:
        for _ in range(times):
            os.kill(os.getpid(), number)
            await stop.requested.wait()
            await asyncio.sleep(0)

    return service


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_the_services(number):
    stop, drained = Stop(grace=LONG), []

    async def drains(stop: Stop) -> None:
        await stop.requested.wait()
        await asyncio.sleep(0.01)
        drained.append("settled")

    with stop.on_signals():
        services = {"drains": drains, "waits": until_stopped, "signal": press(1, number)}
        assert await supervise(services, stop)
    assert drained == ["settled"]


async def test_the_grace_period_runs_out():
    stop = Stop(grace=0.05)
    started = time.monotonic()
    stop.request()
    assert not await supervise({"hangs": never_ending}, stop)
    assert 0.05 <= time.monotonic() - started < 2


async def test_the_grace_period_begins_with_the_stop():
    stop = Stop(grace=0.05)
    hanging = asyncio.create_task(supervise({"hangs": never_ending}, stop))
    assert not (await asyncio.wait([hanging], timeout=0.15))[0]
    stop.request()
    assert not await asyncio.wait_for(hanging, 2)


@pytest.mark.parametrize("signals", [2, 3, 5])
async def test_a_second_signal_lets_go_and_further_ones_change_nothing(signals):
    stop, complaints = Stop(grace=LONG), []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    cleaned_up = []

    async def cleans_up(stop: Stop) -> None:
        try:
            await never_ending(stop)
        finally:
            stop.request()  # one more, while it is being let go
            cleaned_up.append("yes")

    with stop.on_signals():
        services = {"hangs": cleans_up, "signal": press(signals)}
        assert not await asyncio.wait_for(supervise(services, stop), 5)
    assert cleaned_up == ["yes"]
    assert complaints == []


async def test_a_signal_before_the_services_start_is_not_lost():
    stop = Stop(grace=LONG)
    with stop.on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(stop.requested.wait(), 5)
        assert await supervise({"waits": until_stopped}, stop)


async def test_two_signals_before_the_services_start_leave_them_no_time():
    stop = Stop(grace=LONG)
    stop.request()
    stop.request()
    assert not await asyncio.wait_for(supervise({"hangs": never_ending}, stop), 5)


async def test_a_signal_after_the_services_ended_changes_nothing():
    stop = Stop(grace=LONG)
    with stop.on_signals():
        assert await supervise({"waits": until_stopped, "signal": press(1)}, stop)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)
        assert stop.requested.is_set()


async def test_signals_are_given_back():
    before = signal.getsignal(signal.SIGINT)
    stop = Stop(grace=LONG)
    with stop.on_signals():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


async def test_a_crash_takes_the_others_down_and_is_told():
    ended = []

    async def crashes(_: Stop) -> None:
        raise LookupError("gone")

    async def notes(stop: Stop) -> None:
        try:
            await never_ending(stop)
        finally:
            ended.append("cancelled")

    with pytest.raises(ExceptionGroup) as crash:
        await supervise({"crashes": crashes, "other": notes}, Stop(grace=LONG))
    assert crash.group_contains(LookupError, match="gone")
    assert ended == ["cancelled"]


async def test_a_crash_while_draining_is_a_crash():
    async def crashes(stop: Stop) -> None:
        await stop.requested.wait()
        raise LookupError("gone")

    stop = Stop(grace=LONG)
    stop.request()
    with pytest.raises(ExceptionGroup) as crash:
        await supervise({"crashes": crashes, "hangs": never_ending}, stop)
    assert crash.group_contains(LookupError)


async def test_a_service_that_returns_early_is_a_crash_with_its_name():
    async def returns(stop: Stop) -> None: ...

    with pytest.raises(ExceptionGroup) as crash:
        await supervise({"tired": returns, "waits": until_stopped}, Stop(grace=LONG))
    assert crash.group_contains(ServiceExited, match="tired")


async def test_a_service_cancelled_from_within_is_a_crash_and_not_silence():
    async def cancelled_from_within(_: Stop) -> None:
        raise asyncio.CancelledError

    with pytest.raises(ExceptionGroup) as crash:
        await asyncio.wait_for(
            supervise({"lost": cancelled_from_within, "waits": until_stopped}, Stop(grace=LONG)), 5
        )
    assert crash.group_contains(ServiceExited, match="lost")


async def test_whoever_cancels_the_supervisor_cancels_the_services():
    ended = []

    async def notes(stop: Stop) -> None:
        try:
            await never_ending(stop)
        finally:
            ended.append("cancelled")

    running = asyncio.create_task(supervise({"notes": notes}, Stop(grace=LONG)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == ["cancelled"]


async def test_a_sleep_ends_by_itself_or_with_a_stop():
    stop = Stop(grace=LONG)
    assert not await stop.sleep(0.01)
    asyncio.get_running_loop().call_soon(stop.request)
    assert await asyncio.wait_for(stop.sleep(LONG), 5)
    assert await stop.sleep(LONG)


async def test_a_stop_wakes_each_sleeper_once_and_late_comers_too():
    stop, woken = Stop(grace=LONG), []
    with stop.waking(lambda: woken.append("early")):
        with stop.waking(lambda: woken.append("gone before")):
            pass
        stop.request()
        stop.request()
        with stop.waking(lambda: woken.append("late")):
            assert woken == ["early", "late"]


@pytest.mark.parametrize("early", [True, False])
async def test_a_stop_cuts_a_long_wait_short(early):
    stop = Stop(grace=LONG)
    if early:
        stop.request()
    else:
        asyncio.get_running_loop().call_soon(stop.request)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5), stop.interrupting():
            await asyncio.Event().wait()


async def test_what_is_done_in_time_is_not_cut_short():
    async with Stop(grace=LONG).interrupting():
        await asyncio.sleep(0)


async def test_the_lag_of_the_event_loop_is_measured(monkeypatch):
    monkeypatch.setattr(lag, "EVERY", 0.01)
    stop, lags = Stop(grace=LONG), []

    class Observer:
        def loop_lag_measured(self, *, lag: float) -> None:
            lags.append(lag)
            if len(lags) == 1:
                loop = asyncio.get_running_loop()
                loop.call_later(0.005, time.sleep, 0.1)  # somebody hogs the loop past the next tick
            else:
                stop.request()

    await asyncio.wait_for(lag.watch_lag(stop, Observer()), 5)
    assert lags[0] < 0.08
    assert lags[1] >= 0.08
