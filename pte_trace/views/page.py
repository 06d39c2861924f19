"""One self-contained page: everything it shows is in it, nothing is fetched."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Sequence
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from pte_trace.counted.flames import faults, tree
from pte_trace.counted.snapshot import Snapshot
from pte_trace.recording.metadata import Metadata
from pte_trace.recording.summary import Summary
from pte_trace.views import flames, plots, recorded, sentences, stacks

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="$policy">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; }
p { overflow-wrap: anywhere; }
.notes { background: #fff4d6; border-left: 4px solid #E69F00; padding: .5rem 1rem; }
.notes p { margin: .3rem 0; }
.plots { display: grid; gap: 1rem; }
@media (min-width: 60rem) { .plots { grid-template-columns: 1fr 1fr; } }
.plots > div { min-width: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .75rem .25rem 0; }
th, td { text-align: left; vertical-align: top; }
.number { text-align: right; white-space: nowrap; }
</style>
<script>$plotly</script>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")
# What is in the page, and nothing from elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline';"
    " img-src data: blob:; base-uri 'none'; form-action 'none'"
)
_HOOK = ("hook", "attached to", "how", "degraded")
_CONFIG = {"responsive": True, "displaylogo": False, "displayModeBar": False}


def page(title: str, parts: Iterable[str]) -> str:
    """*parts* are HTML."""
    return _PAGE.substitute(
        title=html.escape(title), policy=_POLICY, plotly=get_plotlyjs(), body="\n".join(parts)
    )


def paragraphs(lines: Iterable[str]) -> str:
    return "\n".join(f"<p>{html.escape(line)}</p>" for line in lines)


def notes(lines: Sequence[str]) -> str:
    """What a reader must know; nothing where there is nothing to know."""
    return f'<div class="notes">{paragraphs(lines)}</div>' if lines else ""


def table(
    caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], words: Collection[str] = ()
) -> str:
    """Numbers, but for the first column and those whose heads are in *words*."""
    worded = [not place or head in words for place, head in enumerate(heads)]

    def line(kind: str, cells: Sequence[str]) -> str:
        found = "".join(
            f"<{kind}{'' if word else ' class=number'}>{html.escape(cell)}</{kind}>"
            for cell, word in zip(cells, worded, strict=True)
        )
        return f"<tr>{found}</tr>"

    lines = "".join(line("td", row) for row in rows)
    return (
        f'<h2>{html.escape(caption)}</h2><div class="scroll"><table>{line("th", heads)}'
        f"{lines}</table></div>"
    )


def plot_grid(figures: Iterable[go.Figure]) -> str:
    shown = "\n".join(
        f"<div>{each.to_html(full_html=False, include_plotlyjs=False, config=_CONFIG)}</div>"
        for each in figures
    )
    return f'<div class="plots">{shown}</div>'


def flame_graphs(graphs: Sequence[str]) -> str:
    """With what they need; nothing where there are none."""
    return "\n".join((flames.style(), *graphs, flames.script())) if graphs else ""


def _who_writes(whole: Snapshot) -> list[str]:
    paths = {path: (number,) for path, number in faults(whole).items()}
    if not paths:
        return []
    notes = stacks.sample(whole.effort)
    return [flames.graph("Who writes", tree(paths, flames.LEAST), notes=notes)]


def report(metadata: Metadata, summary: Summary, *, ended: bool) -> str:
    """The page of one recording."""
    whole = summary.whole
    said = [note.plain for note in recorded.notes(metadata, summary, ended=ended)]
    return page(
        f"pte-trace: {recorded.subject(metadata)}",
        [
            paragraphs([recorded.heading(metadata, summary), sentences.heading(whole).plain]),
            paragraphs([sentences.summary(whole).plain]),
            notes(said),
            flame_graphs(_who_writes(whole)),
            plot_grid(plots.of_recording(summary.timeline, whole)),
            table(
                "Hooks",
                _HOOK,
                [
                    (name, hook.function, hook.how.value, hook.degraded or "no")
                    for name, hook in whole.hooks.items()
                ],
                words=_HOOK,
            ),
            table("What was lost, and what tracing cost", ["", ""], _health(summary), words=[""]),
        ],
    )


def _health(summary: Summary) -> list[tuple[str, str]]:
    health = summary.whole.health
    spent = health.probe_seconds
    return [
        ("events that found no room for their VMA", f"{health.map_full:,}"),
        ("runs of our programs that the kernel skipped", f"{health.missed_runs:,}"),
        (
            "time in our programs",
            "not measured (sysctl kernel.bpf_stats_enabled)" if spent is None else f"{spent:.3f} s",
        ),
    ]
