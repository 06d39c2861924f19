"""Write a snapshot in the style asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import IO

from rich.console import Console

from pte_trace.errors import PteTraceError
from pte_trace.snapshot import Snapshot
from pte_trace.views import document, text


def report(snapshot: Snapshot, style: str, stream: IO[str]) -> None:
    """One whole report. *style* is ``text``, ``json`` or ``csv``."""
    with complete(stream):
        if style == "json":
            document.write_json(snapshot, stream)
        elif style == "csv":
            document.write_csv(snapshot, stream)
        else:
            text.console(stream).print(text.report(snapshot))


@contextmanager
def complete(stream: IO[str]) -> Iterator[None]:
    """All that the body writes to *stream* is out at its end, or PteTraceError is raised."""
    try:
        yield
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise PteTraceError(
            f"{stream.name} cannot be written: {error.strerror}.",
            "Free some space, or send the output elsewhere.",
        ) from error


def working(doing: str) -> AbstractContextManager[object]:
    """Say on a terminal what is being done while it takes its seconds."""
    if not sys.stderr.isatty():
        return nullcontext()
    return Console(stderr=True).status(doing)
