"""The page for a person who opens the exporter in a browser."""

from __future__ import annotations

import socket
from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from pte_trace.counted.counters import (
    OUTCOME,
    PROTECTION_CHANGES,
    PTES_MADE_WRITABLE,
    PTES_NOT_INSPECTED,
    WRITE_FAULTS,
)
from pte_trace.counted.counts import Counts
from pte_trace.effort import Effort
from pte_trace.exporter import charts, history
from pte_trace.exporter.group import OTHER, Group
from pte_trace.exporter.state import State
from pte_trace.exporter.switches import not_run
from pte_trace.host.plan import HOOKS
from pte_trace.views import sentences

_MAPPINGS = 50
_COLUMNS = (
    ("Process", ""),
    ("Mapping", ""),
    ("Kind", "wide"),
    ("Faults", "n"),
    ("Avoidable", "n"),
    ("Made writable", "n wide"),
    ("Efficacy", "n"),
)
_UNKNOWN = "?"
_NONE = "-"
_OUTCOMES = {value.name: value.said.replace("`", "") for value in OUTCOME.values}


def render(state: State, version: str) -> str:
    """The whole page as HTML. All that a process can choose is escaped."""
    snapshot = state.snapshot
    ranked = sorted(state.groups.items(), key=_weight, reverse=True)
    counted = [(group, counts) for group, counts in ranked if _weight((group, counts))]
    return template().render(
        host=socket.gethostname(),
        version=version,
        heading=sentences.heading(snapshot).plain,
        numbers=list(_numbers(state)),
        summary=sentences.summary(snapshot).plain,
        notes=[*_troubles(state), *(note.plain for note in sentences.notes(snapshot))],
        outcomes=[
            {"name": name, "faults": f"{faults:,}", "said": _OUTCOMES[name]}
            for name, faults in snapshot.totals.by_name(WRITE_FAULTS).items()
        ],
        mappings=[
            _mapping(group, counts, snapshot.effort) for group, counts in counted[:_MAPPINGS]
        ],
        hidden=max(0, len(counted) - _MAPPINGS),
        hooks=list(_hooks(state)),
        charts=charts.of(list(history.spans(state.history))),
        width=charts.WIDTH,
        height=charts.HEIGHT,
        columns=_COLUMNS,
        style=Markup(_part("page.css")),
        script=Markup(_part("page.js")),
    )


@cache
def policy() -> str:
    """The content security policy: what the page ships is all that runs there, and all it has."""
    digests = {name: sha256(_part(name).encode()).digest() for name in ("page.css", "page.js")}
    style, script = (f"'sha256-{b64encode(each).decode()}'" for each in digests.values())
    return (
        f"default-src 'none'; style-src {style}; script-src {script}; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@cache
def _part(name: str) -> str:
    return files("pte_trace.exporter").joinpath(name).read_text("utf-8")


@cache
def template() -> Template:
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
    return (
        counts.sum(WRITE_FAULTS) + counts.sum(PTES_MADE_WRITABLE) + counts.sum(PROTECTION_CHANGES)
    )


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
    yield _number("faults", "write faults", f"{totals.sum(WRITE_FAULTS):,}")
    yield _number("changes", "protection changes", f"{totals.sum(PROTECTION_CHANGES):,}")


def _number(name: str, said: str, value: str) -> dict[str, str]:
    return {"id": name, "said": said, "value": value}


def _mapping(group: Group, counts: Counts, effort: Effort) -> dict[str, Any]:
    return {
        "comm": "all others" if group == OTHER else group.comm,
        "pid": group.pid,
        "mapping": _NONE if group == OTHER else group.mapping,
        "kind": _NONE if group == OTHER else group.kind,
        "faults": f"{counts.sum(WRITE_FAULTS):,}",
        "avoidable": f"{counts.avoidable:,}",
        "writable": _writable(counts, effort),
        "efficacy": _efficacy(counts, effort),
        "order": {
            "faults": counts.sum(WRITE_FAULTS),
            "avoidable": counts.avoidable,
            "writable": counts.sum(PTES_MADE_WRITABLE),
            "efficacy": -1 if counts.efficacy is None else counts.efficacy,
        },
    }


def _writable(counts: Counts, effort: Effort) -> str:
    if not effort.inspects:
        return _UNKNOWN
    return _at_least(f"{counts.sum(PTES_MADE_WRITABLE):,}", counts)


def _efficacy(counts: Counts, effort: Effort) -> str:
    if not effort.inspects:
        return _UNKNOWN
    return _NONE if counts.efficacy is None else _at_least(f"{counts.efficacy:.1%}", counts)


def _at_least(shown: str, counts: Counts) -> str:
    """Marked where not every PTE that was changed was inspected."""
    return f"≥{shown}" if any(counts[PTES_NOT_INSPECTED]) else shown


def _hooks(state: State) -> Iterator[dict[str, Any]]:
    for hook in HOOKS:
        if hook.name in state.snapshot.needless:
            continue
        attachment = state.snapshot.hooks.get(hook.name)
        yield {
            "name": hook.name,
            "function": attachment.function if attachment else None,
            "silent": hook.name in state.silent,
            "needed": hook.degraded_without is None,
            "how": attachment.how.value if attachment else _NONE,
        }
