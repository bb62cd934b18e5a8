"""Channels between threads, and the clocks of the stages."""

from __future__ import annotations

import threading

import pytest

from headwater.extract.channels import Channel, Closed, StageClock


def test_a_stage_s_rate_is_that_of_all_its_threads_at_work() -> None:
    clock = StageClock("decode", threads=4)
    assert clock.rate == 0.0
    clock.add(2.0, 10)
    clock.add(3.0, 15)  # 5 rows per second of one thread's work
    assert clock.rate == 20.0


def test_a_channel_that_has_ended_is_emptied_first_and_takes_nothing_more() -> None:
    channel: Channel[int] = Channel(3)
    for item in (1, 2):
        channel.put(item)
    channel.end()
    with pytest.raises(Closed):
        channel.put(3)
    assert [channel.get(), channel.get()] == [1, 2]
    with pytest.raises(Closed):
        channel.get()


@pytest.mark.parametrize("full", [True, False])
def test_aborting_wakes_who_waits_on_either_side(full: bool) -> None:
    channel: Channel[int] = Channel(1)
    if full:
        channel.put(1)
    ended = []

    def wait() -> None:
        try:
            if full:
                channel.put(2)
            else:
                channel.get()
        except Closed:
            ended.append(True)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()  # it waits: the channel is full, or empty
    channel.abort()
    waiting.join(60)
    assert ended == [True]
    with pytest.raises(Closed):
        channel.get()
