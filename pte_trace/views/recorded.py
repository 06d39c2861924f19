"""A recording for a person to read in a terminal, and as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from pte_trace.recording.metadata import Metadata
from pte_trace.recording.summary import Summary
from pte_trace.views import document as snapshot_document
from pte_trace.views import sentences, stacks
from pte_trace.views.printable import printable
from pte_trace.views.table import VmaTable

_WRITERS = 10
KILLED = "The recorder was killed: this is what it had recorded up to its last interval."


def subject(metadata: Metadata) -> str:
    """What was recorded."""
    return f"`{printable(' '.join(metadata.command))}`" if metadata.command else "a machine"


def heading(metadata: Metadata, summary: Summary) -> str:
    """When was recorded what, in a sentence."""
    runs = sentences.several(len(summary.runs), "run") + " of " if metadata.command else ""
    return (
        f"Recorded {metadata.started:%Y-%m-%d %H:%M:%S} UTC: {runs}{subject(metadata)},"
        f" {sentences.several(summary.intervals, 'interval')} of {metadata.interval_s:g} s."
    )


def filters(metadata: Metadata) -> str:
    """The filters in force, as they were given; empty where there were none."""
    given = metadata.options
    said = [f"-p {pid}" for pid in given.get("pids") or ()]
    said += [f"-c {given['comm']}"] if given.get("comm") else []
    said += [
        f"--{name} {given[name]}" for name in ("cgroup", "unit", "container") if given.get(name)
    ]
    return printable(" ".join(said))


def notes(metadata: Metadata, summary: Summary, *, ended: bool) -> list[Text]:
    """What a reader of the numbers must know about them."""
    said = [] if ended else [KILLED]
    if filters(metadata):
        said.append(f"Only what the filters let through: {filters(metadata)}.")
    return [*(Text(line, style="yellow") for line in said), *sentences.notes(summary.whole)]


def report(
    metadata: Metadata, summary: Summary, *, ended: bool, rows: int | None
) -> RenderableType:
    """At most *rows* mappings, those with the most write faults first."""
    whole = summary.whole
    shown = whole.vmas.ordered("faults", rows)
    hidden = len(whole.vmas) - len(shown)
    return Group(
        Text(heading(metadata, summary)),
        sentences.heading(whole),
        Text(),
        VmaTable(shown, whole.totals, whole.effort, hidden),
        Text(),
        sentences.summary(whole),
        *notes(metadata, summary, ended=ended),
        *(Text(line) for line in stacks.writers(whole, _WRITERS)),
    )


def document(metadata: Metadata, summary: Summary, *, ended: bool) -> dict[str, Any]:
    """Schema 1, as `run` writes it, and beside it the recording's metadata and its runs."""
    effort = summary.whole.effort
    return {
        **snapshot_document.document(summary.whole),
        "recording": {**metadata.document(), "ended": ended, "intervals": summary.intervals},
        "runs": [
            {
                "run": run.number,
                "duration_s": round(run.duration_s, 6),
                "totals": snapshot_document.row(run.counts, effort),
            }
            for run in summary.runs
        ],
    }
