"""Whose turn it is."""

from __future__ import annotations

import asyncio

from pte_trace.exporter.turns import Turns


async def waiting(turns: Turns, origin: str, order: list[str], name: str = "") -> None:
    if await turns.begin(origin):
        order.append(name or origin)
        await asyncio.sleep(0)
        turns.end()
    else:
        order.append(f"not {name}")


def run(*comers: tuple[str, str], line: int = 8, leave: tuple[int, ...] = ()) -> list[str]:
    """In which order these (origin, name) have their turn, who come while somebody has it."""
    order: list[str] = []

    async def all_of_them() -> None:
        turns = Turns(line)
        assert await turns.begin("first")
        tasks = []
        for origin, name in comers:
            tasks.append(asyncio.create_task(waiting(turns, origin, order, name)))
            await asyncio.sleep(0)
        for number in leave:
            tasks[number].cancel()
        turns.end()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await asyncio.wait_for(turns.begin("last"), 1)

    asyncio.run(all_of_them())
    return order


def test_origins_take_turns_and_of_each_the_newest_is_first() -> None:
    comers = [("crowd", f"crowd {number}") for number in range(4)]
    order = run(*comers, ("alone", "alone"))
    assert order == ["crowd 3", "alone", "crowd 2", "crowd 1", "crowd 0"]


def test_the_oldest_of_a_full_line_gives_way() -> None:
    order = run(*[("crowd", str(number)) for number in range(3)], line=2)
    assert order == ["not 0", "2", "1"]


def test_who_leaves_is_passed_over() -> None:
    comers = [("a", "1"), ("a", "2"), ("b", "3")]
    assert run(*comers, leave=(1,)) == ["3", "1"]
    assert run(*comers, leave=(2,)) == ["2", "1"]
    assert run(*comers, leave=(0, 1, 2)) == []


def test_a_turn_that_was_given_to_one_who_leaves_is_not_lost() -> None:
    async def leave_at_that_moment() -> None:
        turns = Turns(8)
        assert await turns.begin("first")
        task = asyncio.create_task(turns.begin("second"))
        await asyncio.sleep(0)
        turns.end()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await asyncio.wait_for(turns.begin("third"), 1)

    asyncio.run(leave_at_that_moment())
