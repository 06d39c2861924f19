"""`pte-trace compare`: recordings side by side."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pte_trace.commands import options
from pte_trace.errors import UsageError
from pte_trace.views import text, write

if TYPE_CHECKING:
    from pte_trace.recording.comparison import Subject

_MOST = 26


@click.command()
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, metavar="A B [C]...")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="OUT",
    help="Write one self-contained page with plots to OUT instead.",
)
@options.output_options()
def compare(files: tuple[Path, ...], page: Path | None, style: str, path: Path | None) -> None:
    """Compare the recordings B, C… with A: the same program on two kernels, for one.

    Shows the median of the runs a file holds (`record -r`), their spread, differences and
    ratios, and whether a difference is within the noise, for which it wants five runs of each.
    Recordings without a command are compared by the second. Where two recordings cannot be
    compared (another inspection, filter or hook) it says so instead. Of recordings made with
    --stacks, the same share of them, it tells which stacks differ most, in a run on average, and
    the page draws all: red is more than in A, blue less.

    \b
    Examples:
      pte-trace compare before.parquet after.parquet
      pte-trace compare before.parquet after.parquet --html compared.html
    """
    from pte_trace.recording.comparison import compare as compared_with
    from pte_trace.views import compared

    if not 2 <= len(files) <= _MOST:
        raise UsageError(
            f"{len(files)} recordings cannot be compared.", f"Give two to {_MOST} of them."
        )
    with write.working("Reading the recordings"):
        comparison = compared_with([_subject(file) for file in files])
    if page:
        with options.output(page, sys.stdout) as stream:
            stream.write(compared.page(comparison))
        return
    with options.output(path, sys.stdout) as stream:
        if style == "json":
            json.dump(compared.document(comparison), stream)
            stream.write("\n")
        elif style == "csv":
            compared.write_csv(comparison, stream)
        else:
            text.console(stream).print(compared.text(comparison))
        stream.flush()


def _subject(path: Path) -> Subject:
    from pte_trace.recording.comparison import Subject
    from pte_trace.recording.reading import Recording
    from pte_trace.recording.summary import summarize

    with Recording(path) as recording:
        summary = summarize(recording)
        return Subject(str(path), recording.metadata, summary, recording.ended)
