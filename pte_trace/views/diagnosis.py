"""What the doctor found, for a person and as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pte_trace.host.facts import FunctionFacts, HostFacts
from pte_trace.host.plan import HOOKS, Plan, Refusal, capabilities, degraded
from pte_trace.views.printable import printable

_SAID = {True: "yes", False: "no", None: "unknown"}
_SWITCH = {True: "on", False: "off", None: "unknown"}
_PIDS = {True: "the kernel's", False: "a namespace's, not the kernel's", None: "unknown"}
_CGROUPS = {
    "2": "version 2",
    "both": "both versions: what was put into those of version 1 alone is not known to be there",
    "1": "version 1: to which cgroup, unit or container a process belongs is not known",
    None: "unknown",
}
_TRIED = {True: "yes", False: "no", None: "refused"}
_OPTIMIZATION = {True: "at work", False: "absent", None: "unknown"}


def _facts(facts: HostFacts) -> list[tuple[str, str]]:
    """Each fact as a name and what is known of it."""
    capabilities = facts.capabilities
    restrict = "unknown" if facts.kptr_restrict is None else facts.kptr_restrict
    return [
        ("kernel", f"Linux {facts.release or 'unknown'}, {facts.machine or 'machine unknown'}"),
        (
            "capabilities",
            "unknown" if capabilities is None else " ".join(sorted(capabilities)) or "none of use",
        ),
        ("lockdown", facts.lockdown or "unknown (securityfs is not mounted, or has none)"),
        ("type information (BTF)", _SAID[facts.btf] + _because(facts.btf_problem)),
        ("BPF programs accepted", _SAID[facts.bpf_errno is None]),
        ("kernel memory readable", _SAID[facts.kernel_memory_readable]),
        ("kprobes", _SAID[facts.kprobes] + _because(_disarmed(facts))),
        ("function tracing (ftrace)", _SWITCH[facts.ftrace_enabled]),
        ("kernel symbols", f"tried by name, below (kptr_restrict: {restrict}, of no matter)"),
        ("PIDs", _PIDS[facts.initial_pid_namespace]),
        ("cgroups", _CGROUPS[facts.cgroups]),
        ("tracefs mounted", _SAID[facts.tracefs] + " (not needed)"),
        ("BCC", facts.bcc_version or "no" + _because(_impostor(facts))),
    ]


def _disarmed(facts: HostFacts) -> str | None:
    return "switched off" if facts.kprobes_armed is False else None


def _impostor(facts: HostFacts) -> str | None:
    return facts.bcc_impostor and f"{facts.bcc_impostor} is another package of that name"


def _because(problem: str | None) -> str:
    return f": {problem}" if problem else ""


def _function(
    name: str, function: FunctionFacts, preemptible: bool | None
) -> tuple[str, str, str, str, str]:
    known = "no" if function.parameters is None else "yes"
    session = "not tried" if preemptible is False else _TRIED[function.session]
    return name, known, _TRIED[function.fentry], session, _TRIED[function.kprobe]


def page(facts: HostFacts, plan: Plan, file: str | None = None) -> RenderableType:
    """The verdict, the facts, what was tried, the plan, and what it cannot do as it should.

    *file*: a kernel's, that the facts are of: nothing could be tried.
    """
    found = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _facts(facts) if file is None else _facts(facts)[:1]:
        found.add_row(Text(name), Text(printable(value)))
    found.add_row(Text("preemptible kernel"), Text(_SAID[facts.preemptible]))
    found.add_row(Text("real-time kernel"), Text(_SAID[facts.realtime]))
    found.add_row(Text("sessions of any number"), Text(_SAID[facts.sessions_unbounded]))
    found.add_row(Text("typed pointers in probes"), Text(_SAID[facts.casts]))
    found.add_row(Text("soft-dirty bits"), Text(_SAID[facts.behavior.soft_dirty]))
    at_work = _OPTIMIZATION[facts.behavior.optimization]
    found.add_row(Text("mprotect optimization"), Text(at_work, style="bold"))

    functions = _table("FUNCTION", "IN BTF", "FENTRY", "SESSION", "KPROBE")
    for name, function in facts.functions.items():
        functions.add_row(*_function(name, function, facts.preemptible))

    verdict = "cannot be traced as things are" if plan.refusal else "can be traced"
    subject, known = "This host", "tried for an instant"
    if file is not None:
        subject, known = f"The kernel of {printable(file)}", "as its files tell; none was tried"
    parts: list[RenderableType] = [
        Text(f"{subject} {verdict}.", style="bold"),
        *(Text(), found, Text()),
        Text(f"What could be put on the functions to hook, {known}:"),
        functions,
    ]
    if plan.refusal is None:
        parts += [Text(), Text("What pte-trace will use:"), _hooks(plan), *_degraded(plan)]
        parts += [Text(), Text("What it needs instead of root:"), _needed(facts, plan)]
    return Group(*parts)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading)
    return table


def _hooks(plan: Plan) -> Table:
    table = _table("HOOK", "ATTACHED TO", "HOW", "DEGRADED")
    worse = {hook.name for hook in degraded(plan.attachments, plan.needless)}
    for hook in HOOKS:
        attachment = plan.attachments.get(hook.name)
        where = (attachment.function, attachment.how.value) if attachment else ("-", "-")
        table.add_row(hook.name, *where, "yes" if hook.name in worse else "no")
    return table


def _needed(facts: HostFacts, plan: Plan) -> Table:
    table = _table("CAPABILITY", "WHY")
    for name, why in capabilities(facts, plan.attachments).items():
        table.add_row(name, why)
    return table


def _degraded(plan: Plan) -> list[RenderableType]:
    found = [(said, hook.mend) for hook, said in degraded(plan.attachments, plan.needless).items()]
    if plan.by_process:
        found.append((plan.by_process.why, plan.by_process.mend))
    parts: list[RenderableType] = []
    for said, mend in found:
        parts += [Text(), Text(said, style="yellow"), Padding.indent(Text(mend), 2)]
    return parts


def _refusal(refusal: Refusal | None) -> dict[str, str] | None:
    return {"why": refusal.why, "mend": refusal.mend} if refusal else None


def document(facts: HostFacts, plan: Plan, file: str | None = None) -> dict[str, Any]:
    """Facts (null is unknown), functions as tried, the plan, and why there is none.

    ``refusal_by_process``: why a process cannot be traced by its PID, nor a command. *file* as in
    `page`.
    """
    return {
        "kernel": {
            "release": facts.release,
            "optimization": facts.behavior.optimization,
            **({} if file is None else {"file": file}),
        },
        "facts": {
            "machine": facts.machine,
            "capabilities": sorted(facts.capabilities) if facts.capabilities is not None else None,
            "lockdown": facts.lockdown,
            "btf": facts.btf,
            "bpf": facts.bpf_errno is None,
            "kernel_memory_readable": facts.kernel_memory_readable,
            "kprobes": facts.kprobes,
            "kprobes_armed": facts.kprobes_armed,
            "ftrace_enabled": facts.ftrace_enabled,
            "initial_pid_namespace": facts.initial_pid_namespace,
            "cgroups": facts.cgroups,
            "tracefs": facts.tracefs,
            "kptr_restrict": facts.kptr_restrict,
            "preemptible": facts.preemptible,
            "realtime": facts.realtime,
            "sessions_unbounded": facts.sessions_unbounded,
            "casts": facts.casts,
            "perf_event_paranoid": facts.perf_event_paranoid,
            "tables_are_locked_memory": facts.tables_are_locked_memory,
            "five_level_page_tables": facts.five_level_page_tables,
            "clean_pages": facts.behavior.clean_pages,
            "soft_dirty": facts.behavior.soft_dirty,
            "bcc": facts.bcc_version,
            "bcc_impostor": facts.bcc_impostor,
        },
        "functions": {
            name: {
                "parameters": function.parameters and list(function.parameters),
                "fentry": function.fentry,
                "session": function.session,
                "kprobe": function.kprobe,
            }
            for name, function in facts.functions.items()
        },
        "hooks": {
            name: {
                "attached": attachment.function,
                "how": attachment.how.value,
                "degraded": attachment.degraded,
            }
            for name, attachment in plan.attachments.items()
        },
        "capabilities": (
            dict(capabilities(facts, plan.attachments)) if plan.refusal is None else {}
        ),
        "traceable": plan.refusal is None,
        "refusal": _refusal(plan.refusal),
        "refusal_by_process": _refusal(plan.refusal or plan.by_process),
    }
