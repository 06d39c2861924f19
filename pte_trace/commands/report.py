"""`pte-trace report`: what a recording holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import IO

import click

from pte_trace.commands import options
from pte_trace.errors import UsageError
from pte_trace.views import document, text, write


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="OUT",
    help="Write one self-contained page with plots to OUT instead.",
)
@options.output_options(formats=(*options.FORMATS, *options.PROFILES))
@options.rows(default=20)
def report(file: Path, page: Path | None, style: str, path: Path | None, rows: int | None) -> None:
    """Report what FILE holds, a recording made with `pte-trace record`.

    As text the totals, the mappings with the most write faults and what to know of them; JSON has
    the totals as `pte-trace run` writes them, every mapping, the runs and the metadata; CSV a line
    for each mapping. The page works without a network, on a desktop and on a phone. Of what was
    recorded with --stacks it has a flame graph, and folded and pprof write the stacks alone, as
    those of `pte-trace explain` do.

    \b
    Examples:
      pte-trace report faults.parquet
      pte-trace report faults.parquet --html faults.html
      pte-trace report faults.parquet --format json -o faults.json
      pte-trace report stacks.parquet --format folded -o faults.folded
    """
    from pte_trace.exporter.memory import keep_small
    from pte_trace.recording.reading import Recording
    from pte_trace.recording.summary import summarize
    from pte_trace.views import recorded

    # What one batch of a recording took is free for the next.
    keep_small()
    with Recording(file) as recording:
        with write.working(f"Reading {file}"):
            summary = summarize(recording)
        metadata, ended = recording.metadata, recording.ended
    if page:
        from pte_trace.views.page import report as rendered

        with options.output(page, sys.stdout) as stream:
            stream.write(rendered(metadata, summary, ended=ended))
        return
    if style in options.PROFILES and not metadata.effort.stacks:
        raise UsageError(
            f"{file} has no stacks.", "Record again with them: pte-trace record --stacks"
        )
    options.check_binary(style, path)
    with options.output(path, sys.stdout) as stream:
        if style in options.PROFILES:
            write.stacks(summary.whole, style, stream)
        elif style == "json":
            _json(recorded.document(metadata, summary, ended=ended), stream)
        elif style == "csv":
            document.write_csv(summary.whole, stream)
        else:
            text.console(stream).print(recorded.report(metadata, summary, ended=ended, rows=rows))
        stream.flush()


def _json(found: dict[str, object], stream: IO[str]) -> None:
    json.dump(found, stream)
    stream.write("\n")
