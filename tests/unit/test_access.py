"""Passwords: what is remembered, and for how long."""

from __future__ import annotations

import asyncio
from contextlib import closing

import bcrypt
import pytest

from pte_trace.exporter import access
from pte_trace.exporter.access import Access, Failures
from tests.integration.served import basic
from tests.unit.test_reader import Clock


def hashed(password: str, cost: int = 4) -> bytes:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost))


def test_what_was_right_is_remembered_until_its_hash_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked = []
    matches = access._matches

    def counted(*arguments: object) -> bool:
        checked.append(arguments)
        return matches(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(access, "_matches", counted)
    ann, bob = hashed("a"), hashed("b")

    async def ask() -> None:
        with closing(Access()) as asked:

            async def may(name: str, password: str) -> bool:
                return await asked.granted(basic(name, password).encode(), "here")

            asked.use({"ann": ann, "bob": bob})
            assert await may("ann", "a")
            assert await may("bob", "b")
            assert len(checked) == 2
            asked.use({"ann": ann, "bob": hashed("c")})
            assert await may("ann", "a")
            assert len(checked) == 2
            assert not await may("bob", "b")
            asked.use({})
            assert await may("ann", "whatever")
            asked.use({"ann": ann})
            assert await may("ann", "a")
            assert len(checked) == 4

    asyncio.run(ask())


def test_a_hash_that_changes_while_it_is_compared_counts_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Access()
    ann = hashed("a")

    def slow(*_: object) -> bool:
        asked.use({"ann": hashed("b")})
        return True

    monkeypatch.setattr(access, "_matches", slow)
    asked.use({"ann": ann})
    with closing(asked):
        assert not asyncio.run(asked.granted(basic("ann", "a").encode(), "here"))


@pytest.mark.parametrize("cost", [4, 5, 6, None])
def test_a_no_takes_all_rounds_of_the_dearest(
    monkeypatch: pytest.MonkeyPatch, cost: int | None
) -> None:
    rounds = []
    hashpw, checkpw = bcrypt.hashpw, bcrypt.checkpw

    def hash_counted(password: bytes, salt: bytes) -> bytes:
        rounds.append(1 << int(salt.split(b"$")[2]))
        return hashpw(password, salt)

    def check_counted(password: bytes, against: bytes) -> bool:
        rounds.append(1 << int(against.split(b"$")[2]))
        return checkpw(password, against)

    theirs = None if cost is None else hashed("right", cost)
    monkeypatch.setattr(bcrypt, "hashpw", hash_counted)
    monkeypatch.setattr(bcrypt, "checkpw", check_counted)
    assert not access._matches(b"wrong", theirs, 6)
    assert sum(rounds) == 1 << 6


def test_failures_are_counted_by_origin_and_forgotten() -> None:
    clock = Clock()
    failures = Failures(clock)
    assert [failures.one_more("a") for _ in range(3)] == [1, 2, 3]
    assert failures.one_more("b") == 1
    clock.time = 61
    assert failures.one_more("a") == 1
    for number in range(5000):
        failures.one_more(number)
    assert failures.one_more("a") == 1
    assert len(failures._of) < 2000
