"""Write a snapshot in the style asked for.

What draws text takes time to import: nothing else waits for it, a start least of all.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import IO

from pte_trace.snapshot import Snapshot
from pte_trace.views import document


def report(snapshot: Snapshot, style: str, stream: IO[str]) -> None:
    """One whole report. *style* is ``text``, ``json`` or ``csv``."""
    if style == "json":
        document.write_json(snapshot, stream)
    elif style == "csv":
        document.write_csv(snapshot, stream)
    else:
        from pte_trace.views import text

        text.console(stream).print(text.report(snapshot))
    stream.flush()


def working(doing: str) -> AbstractContextManager[object]:
    """Say on a terminal what is being done while it takes its seconds."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(doing)
