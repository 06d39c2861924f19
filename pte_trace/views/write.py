"""Write a snapshot in the style asked for.

What draws text takes time to import: nothing else waits for it, a start least of all.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import IO

from pte_trace.counted.snapshot import Snapshot
from pte_trace.views import document


def report(snapshot: Snapshot, style: str, stream: IO[str], rows: int | None = None) -> None:
    """One whole report. *style*: ``text`` (of at most *rows* mappings), ``json``, ``csv``, or
    of its stacks alone ``folded`` or ``pprof``.
    """
    if style == "json":
        document.write_json(snapshot, stream)
    elif style == "csv":
        document.write_csv(snapshot, stream)
    elif style in ("folded", "pprof"):
        stacks(snapshot, style, stream)
    else:
        from pte_trace.views import text

        text.console(stream).print(text.report(snapshot, rows))
    stream.flush()


def stacks(snapshot: Snapshot, style: str, stream: IO[str]) -> None:
    """As ``folded`` or ``pprof``."""
    if style == "folded":
        from pte_trace.views import folded

        folded.write(snapshot, stream)
    else:
        from pte_trace.views import pprof

        stream.flush()
        pprof.write(snapshot, stream.buffer)  # type: ignore[attr-defined]


def working(doing: str) -> AbstractContextManager[object]:
    """Say on a terminal what is being done while it takes its seconds."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(doing)
