"""pte-trace from a program: `Session` traces, `load` reads what `pte-trace record` wrote.

    import pte_trace

    frame = pte_trace.load("faults.parquet")
    frame.groupby("name", observed=True)["write_faults_wp_reuse"].sum()

    with pte_trace.Session(pte_trace.Filters(pids=(1234,))) as session:
        session.start()
        time.sleep(10)
        print(session.read().totals)

Each is imported when it is first used: pandas only by `load`. BCC has a process of its own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pte_trace.filters import Filters
    from pte_trace.recording.frame import load
    from pte_trace.session import Session

__all__ = ["Filters", "Session", "load"]
__version__ = "0.1.0"

_HOMES = {"Filters": "filters", "Session": "session", "load": "recording.frame"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
