"""The page for a person who opens the exporter in a browser."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from pte_trace.effort import Effort
from pte_trace.exporter.groups import OTHER, Group
from pte_trace.exporter.state import State
from pte_trace.exporter.switches import not_run
from pte_trace.plan import HOOKS
from pte_trace.records import OUTCOMES, Counts
from pte_trace.views import sentences

_MAPPINGS = 20
_UNKNOWN = "?"
_NONE = "-"
_OUTCOMES = {
    "wp_reuse": "the process had the page to itself: avoidable",
    "wp_copy": "the page had to be copied",
    "wp_shared": "a shared mapping",
    "wp_uffd": "handed to a userfaultfd monitor",
    "other": "first touch, swap-in, huge page, …",
    "error": "ended in an error",
}


def render(state: State, version: str) -> str:
    """The whole page as HTML. All that a process can choose is escaped."""
    snapshot = state.snapshot
    ranked = sorted(state.groups.items(), key=_weight, reverse=True)
    counted = [(group, counts) for group, counts in ranked if _weight((group, counts))]
    return _template().render(
        host=socket.gethostname(),
        version=version,
        heading=sentences.heading(snapshot).plain,
        numbers=list(_numbers(state)),
        summary=sentences.summary(snapshot).plain,
        notes=[*_troubles(state), *(note.plain for note in sentences.notes(snapshot))],
        outcomes=[
            {"name": name, "faults": f"{faults:,}", "said": _OUTCOMES[name]}
            for name, faults in zip(OUTCOMES, snapshot.totals.write_faults, strict=True)
        ],
        mappings=[
            _mapping(group, counts, snapshot.effort) for group, counts in counted[:_MAPPINGS]
        ],
        hidden=max(0, len(counted) - _MAPPINGS),
        hooks=list(_hooks(state)),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("pte_trace.exporter", ""),
        autoescape=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("page.html.j2")


def _troubles(state: State) -> Iterator[str]:
    if state.silent:
        yield not_run(state.silent)
    if state.errors:
        failed = sentences.several(state.errors, "reading")
        yield f"{failed} of the tables failed; the log says why."


def _weight(entry: tuple[Group, Counts]) -> int:
    """What the mappings are ranked by: what they fault, and what they were saved."""
    _, counts = entry
    return sum(counts.write_faults) + sum(counts.made_writable) + sum(counts.changes)


def _numbers(state: State) -> Iterator[dict[str, str]]:
    snapshot = state.snapshot
    totals, effort = snapshot.totals, snapshot.effort
    saved = snapshot.seconds_saved(totals)
    yield _number("efficacy", "efficacy", _efficacy(totals, effort))
    yield _number("avoidable", "avoidable faults remained", f"{totals.avoidable:,}")
    yield _number("writable", "PTEs made writable", _writable(totals, effort))
    yield _number(
        "saved",
        "saved at most, estimated",
        _UNKNOWN if saved is None else sentences.duration(saved),
    )
    yield _number("faults", "write faults", f"{sum(totals.write_faults):,}")
    yield _number("changes", "protection changes", f"{sum(totals.changes):,}")


def _number(name: str, said: str, value: str) -> dict[str, str]:
    return {"id": name, "said": said, "value": value}


def _mapping(group: Group, counts: Counts, effort: Effort) -> dict[str, str]:
    return {
        "comm": "all others" if group == OTHER else group.comm,
        "pid": group.pid,
        "mapping": _NONE if group == OTHER else group.mapping,
        "kind": _NONE if group == OTHER else group.kind,
        "faults": f"{sum(counts.write_faults):,}",
        "avoidable": f"{counts.avoidable:,}",
        "writable": _writable(counts, effort),
        "efficacy": _efficacy(counts, effort),
    }


def _writable(counts: Counts, effort: Effort) -> str:
    if not effort.inspects:
        return _UNKNOWN
    return _at_least(f"{sum(counts.made_writable):,}", counts)


def _efficacy(counts: Counts, effort: Effort) -> str:
    if not effort.inspects:
        return _UNKNOWN
    return _NONE if counts.efficacy is None else _at_least(f"{counts.efficacy:.1%}", counts)


def _at_least(shown: str, counts: Counts) -> str:
    """Marked where not every PTE that was changed was inspected."""
    return f"≥{shown}" if any(counts.not_inspected) else shown


def _hooks(state: State) -> Iterator[dict[str, Any]]:
    for hook in HOOKS:
        attachment = state.snapshot.hooks.get(hook.name)
        yield {
            "name": hook.name,
            "function": attachment.function if attachment else None,
            "silent": hook.name in state.silent,
            "needed": hook.degraded_without is None,
            "how": attachment.how.value if attachment else _NONE,
        }
