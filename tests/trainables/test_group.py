"""The mailbox between a worker group and its trial, in a loop of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

from trainables.group import BEGUN, OUTCOME, REPORT, Mailbox, Order


class NoFolder:
    def open(self) -> Path:
        return Path("/nowhere")

    def saved(self) -> None: ...

    def close(self) -> None: ...


def order(name: str) -> Order:
    return Order({"arm": name}, NoFolder(), frozenset({2}))


def test_mail_comes_in_order_and_once() -> None:
    async def talk() -> None:
        box = Mailbox()
        number = await box.give(order("a"))
        assert (await box.take(0))[1].config == {"arm": "a"}
        assert not await box.deliver(number, BEGUN, None)
        assert not await box.deliver(number, REPORT, {"epoch": 1.0})
        assert await box.collect(1.0) == [(BEGUN, None), (REPORT, {"epoch": 1.0})]
        assert await box.collect(0.01) == []

    asyncio.run(talk())


def test_a_rank_waits_at_a_rung_for_the_verdict() -> None:
    async def talk() -> None:
        box = Mailbox()
        number = await box.give(order("a"))
        at_rung = asyncio.create_task(box.deliver(number, REPORT, {"epoch": 2.0}, waits=True))
        assert [kind for kind, _ in await box.collect(1.0)] == [REPORT]
        await asyncio.sleep(0.01)
        assert not at_rung.done()
        await box.go_on()
        assert await at_rung is False
        # The same again, with a stop for a verdict: an earlier `go_on` does not count.
        at_rung = asyncio.create_task(box.deliver(number, REPORT, {"epoch": 4.0}, waits=True))
        await asyncio.sleep(0.01)
        assert not at_rung.done()
        await box.ask_stop()
        assert await at_rung is True
        assert await box.deliver(number, REPORT, {"epoch": 5.0}, waits=True) is True  # no waiting after a stop

    asyncio.run(talk())


def test_every_rank_takes_each_order_once_and_a_new_group_the_open_one() -> None:
    async def talk() -> None:
        box = Mailbox()
        early = asyncio.create_task(box.take(0))
        await asyncio.sleep(0.01)
        assert not early.done()
        number = await box.give(order("a"))
        assert (await early)[0] == (await box.take(0))[0] == number
        # The group is lost; the one that replaces it starts from nothing.
        assert (await box.take(0))[0] == number
        done = [asyncio.create_task(box.take(number)) for _ in range(2)]
        await box.deliver(number, OUTCOME, "complete")
        late = asyncio.create_task(box.take(0))
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in (*done, late))
        second = await box.give(order("b"))
        assert [(await task)[0] for task in (*done, late)] == [second] * 3

    asyncio.run(talk())


def test_a_stop_belongs_to_its_order() -> None:
    async def talk() -> None:
        box = Mailbox()
        first = await box.give(order("a"))
        waiting = asyncio.create_task(box.wait_for_stop(first))
        await box.ask_stop()
        await waiting
        second = await box.give(order("b"))
        waiting = asyncio.create_task(box.wait_for_stop(second))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await box.wait_for_stop(first)  # over: no rank may train it any more
        assert await box.deliver(first, REPORT, {"epoch": 9.0}) is True
        assert await box.collect(0.01) == []
        # A rank that was left at a rung of the order before: it is over for it too.
        at_rung = asyncio.create_task(box.deliver(second, REPORT, {"epoch": 2.0}, waits=True))
        await asyncio.sleep(0.01)
        assert not at_rung.done()
        await box.give(order("c"))
        assert await asyncio.wait_for(at_rung, 5) is True
        await waiting

    asyncio.run(talk())
