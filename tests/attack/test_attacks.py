"""Each attack alone: another client is served meanwhile, and nothing is left of it."""

from __future__ import annotations

import pytest

from tests.attack import attacks
from tests.attack.attacks import Attack
from tests.attack.conftest import Forts
from tests.attack.siege import watched


@pytest.mark.parametrize("name", attacks.SENT)
def test_what_is_sent(fort: Forts, name: str) -> None:
    besieged = fort()
    with watched(besieged):
        attacks.send_and_hold(besieged, [attacks.SENT[name]])
    besieged.end()


def test_all_of_it_by_tls(fort: Forts) -> None:
    besieged = fort(tls=True)
    with watched(besieged):
        attacks.send_and_hold(besieged, attacks.SENT.values())
    besieged.end()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("attack", attacks.OTHERS, ids=lambda attack: attack.__name__)
def test_how_it_is_done(fort: Forts, attack: Attack, tls: bool) -> None:
    besieged = fort(tls=tls)
    with watched(besieged):
        attack(besieged)
    besieged.end()


@pytest.mark.parametrize("attack", attacks.OF_TLS, ids=lambda attack: attack.__name__)
def test_tls(fort: Forts, attack: Attack) -> None:
    besieged = fort(tls=True)
    with watched(besieged):
        attack(besieged)
    besieged.end()
