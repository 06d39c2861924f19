"""Who has to go where there is no more room."""

from __future__ import annotations

import socket

import pytest

from pte_trace.exporter.crowd import Crowd, Guest, origin


class Place:
    """A crowd with room for *most*, and the names of those who were dismissed."""

    def __init__(self, most: int, most_bytes: int = 100) -> None:
        self.crowd = Crowd(most, most_bytes)
        self.gone: list[str] = []

    def guest(self, name: str, origin: str = "a") -> Guest:
        made = Guest(origin, lambda: self.gone.append(name))
        self.crowd.enter(made)
        return made

    def taker(self, name: str, answer: bytes) -> Guest:
        made = self.guest(name)
        self.crowd.takes(made, answer)
        return made


def test_it_is_one_of_those_who_are_most_and_got_on_least_recently() -> None:
    place = Place(4)
    place.guest("alone", "a")
    got_on = place.guest("got on", "b")
    place.guest("old", "b")
    place.guest("new", "b")
    place.crowd.moved(got_on)
    assert place.crowd.has_room()
    assert place.gone == ["old"]
    assert place.crowd.has_room()
    assert len(place.crowd) == 3


def test_nobody_who_waits_for_us_goes() -> None:
    place = Place(2)
    first, second = place.guest("first"), place.guest("second")
    for guest in (first, second):
        place.crowd.waits(guest)
    assert not place.crowd.has_room()
    assert place.gone == []
    place.crowd.takes(second, b"x")
    assert place.crowd.has_room()
    assert place.gone == ["second"]


def test_who_was_served_is_the_first_to_go() -> None:
    place = Place(2)
    place.guest("asks")
    place.crowd.served(place.taker("was served", b"x"))
    assert place.crowd.has_room()
    assert place.gone == ["was served"]


def test_answers_are_kept_up_to_a_bound() -> None:
    """Those of one moment are one; somebody takes each of the others."""
    place = Place(99, most_bytes=100)
    same = b"x" * 20
    for number in range(10):
        place.taker(f"same {number}", same)
    others = [place.taker(f"other {number}", bytes(20)) for number in range(4)]
    place.crowd.served(others[0])
    place.taker("fits again", bytes(20))
    assert place.gone == []
    place.taker("last", bytes(20))
    assert place.gone == [f"same {number}" for number in range(10)]


def test_an_answer_larger_than_the_bound_is_still_given() -> None:
    place = Place(99, most_bytes=100)
    place.taker("one", bytes(1000))
    place.taker("two", bytes(1000))
    assert place.gone == []


def test_who_is_gone_leaves_nothing_behind() -> None:
    place = Place(99)
    guests = [place.taker(f"{number}", bytes(number)) for number in range(1, 9)]
    guests += [place.guest(f"{number}", f"origin {number}") for number in range(9)]
    place.crowd.waits(guests[-1])
    for guest in [*guests, *guests]:
        place.crowd.leave(guest)
        # What is still on its way finds nothing to do.
        place.crowd.moved(guest)
        place.crowd.waits(guest)
        place.crowd.takes(guest, b"x")
        place.crowd.served(guest)
    assert len(place.crowd) == len(place.crowd._lines) == place.crowd._bytes == 0
    assert not place.crowd._takers


def test_at_the_end_those_who_are_answered_stay_for_a_moment() -> None:
    place = Place(9)
    place.guest("asks")
    place.crowd.waits(place.guest("waits"))
    place.taker("takes", b"x")
    place.crowd.dismiss_all(but_those_we_owe=True)
    assert place.gone == ["asks"]
    place.crowd.dismiss_all(but_those_we_owe=False)
    assert sorted(place.gone) == ["asks", "takes", "waits"]


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1", True),
    ],
)
def test_an_ipv6_network_is_one_origin(one: str, another: str, same: bool) -> None:
    with socket.socket(socket.AF_INET6) as client:
        assert (origin(client, (one, 1, 0, 0)) == origin(client, (another, 2, 0, 0))) is same


def test_a_unix_socket_tells_the_user() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert origin(one, "") == origin(other, b"")
