"""How many examples a test takes: some in every run, many with `make fuzz`."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def one_of(costly: int) -> settings:
    """So many times fewer examples than a test has that costs nothing; files may be reused."""
    return settings(
        max_examples=max(1, settings().max_examples // costly),
        suppress_health_check=list(HealthCheck),
    )
