"""What is so on this host. Collects, does not judge: `pte_trace.plan` decides.

None says that a thing is not known, which is not the same as False.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pte_trace import behavior, kernel_types, trial
from pte_trace.behavior import Behavior
from pte_trace.btf import BTF, BTFError

CAPABILITIES = {"CAP_SYS_ADMIN": 21, "CAP_SYS_RESOURCE": 24, "CAP_PERFMON": 38, "CAP_BPF": 39}
TRACED_FUNCTIONS = (
    "change_pte_range",
    "change_protection",
    "do_wp_page",
    "handle_mm_fault",
    "mmap_region",
)

_TRACEFS = (Path("/sys/kernel/tracing/events"), Path("/sys/kernel/debug/tracing/events"))
_LOCKDOWN = Path("/sys/kernel/security/lockdown")
_KPROBE_PMU = Path("/sys/bus/event_source/devices/kprobe")
_CPUINFO = Path("/proc/cpuinfo")
_PREEMPTION = Path("/sys/kernel/debug/sched/preempt")
_KPTR_RESTRICT = Path("/proc/sys/kernel/kptr_restrict")
_PERF_EVENT_PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")


@dataclass(frozen=True)
class FunctionFacts:
    """One kernel function: its parameters by BTF, and what a trial attach said."""

    parameters: tuple[str, ...] | None = None
    fentry: bool | None = None
    kprobe: bool | None = None


@dataclass(frozen=True)
class HostFacts:
    """What was found out about this host."""

    release: str | None = None
    machine: str | None = None
    capabilities: frozenset[str] | None = None
    lockdown: str | None = None
    bpf_errno: int | None = None
    btf: bool | None = None
    btf_problem: str | None = None
    missing_members: tuple[str, ...] = ()
    current_task_btf: bool | None = None
    preemptible: bool | None = None
    kernel_memory_readable: bool | None = None
    kprobes: bool | None = None
    tracefs: bool | None = None
    kptr_restrict: int | None = None
    perf_event_paranoid: int | None = None
    tables_are_locked_memory: bool | None = None
    five_level_page_tables: bool | None = None
    behavior: Behavior = field(default_factory=Behavior)
    bcc_version: str | None = None
    bcc_impostor: str | None = None
    functions: Mapping[str, FunctionFacts] = field(default_factory=dict)


def _capabilities() -> frozenset[str] | None:
    try:
        status = Path("/proc/self/status").read_text()
        effective = int(status.split("CapEff:")[1].split()[0], 16)
    except (OSError, IndexError, ValueError):
        return None
    return frozenset(name for name, bit in CAPABILITIES.items() if effective >> bit & 1)


def _lockdown() -> str | None:
    """``none``, ``integrity`` or ``confidentiality``: the one in brackets."""
    try:
        text = _LOCKDOWN.read_text()
        return text[text.index("[") + 1 : text.index("]")]
    except (OSError, ValueError):
        return None


def _number(setting: Path) -> int | None:
    try:
        return int(setting.read_text())
    except (OSError, ValueError):
        return None


def _five_level_page_tables() -> bool | None:
    """The kernel takes the flag away where it does not use them (check_la57_support())."""
    try:
        text = _CPUINFO.read_text()
    except OSError:
        return None
    flags = next((line for line in text.splitlines() if line.startswith("flags")), None)
    return None if flags is None else "la57" in flags.split()


def _preemptible(version: str) -> bool | None:
    """Whether the kernel may be preempted in its own code: found in *version* (uname(2)), or
    where it is chosen at boot (CONFIG_PREEMPT_DYNAMIC) in debugfs, as `none (voluntary) full`.
    """
    if "PREEMPT" not in version:
        return False
    if "PREEMPT_DYNAMIC" not in version:
        return True
    try:
        chosen = _PREEMPTION.read_text().partition("(")[2].partition(")")[0]
    except OSError:
        return None
    return chosen not in ("none", "voluntary") if chosen else None


def _exists(path: Path) -> bool | None:
    """None where we may not look: tracefs is root's."""
    try:
        path.stat()
    except PermissionError:
        return None
    except OSError:
        return False
    return True


def _any(known: Iterable[bool | None]) -> bool | None:
    answers = set(known)
    return True if True in answers else None if None in answers else False


def _function(name: str, btf: BTF | None) -> FunctionFacts:
    function_id = btf.function_id(name) if btf else None
    return FunctionFacts(
        parameters=btf.parameters(name) if btf else None,
        fentry=False if function_id is None else trial.fentry(function_id),
        kprobe=trial.kprobe(name),
    )


def collect(
    btf: BTF | None, btf_problem: str | None, bcc: tuple[str | None, str | None]
) -> HostFacts:
    """Look at this host. *btf* is its types where they could be read.

    *bcc* is the version of the BCC module, and the directory of one that is not BCC (see
    `pte_trace.driver.bcc_version`). Does not raise.
    """
    system = os.uname()
    return HostFacts(
        release=system.release,
        machine=system.machine,
        capabilities=_capabilities(),
        lockdown=_lockdown(),
        bpf_errno=trial.bpf_errno(),
        btf=btf is not None,
        btf_problem=btf_problem,
        missing_members=kernel_types.missing(btf) if btf else (),
        current_task_btf=(
            "BPF_FUNC_get_current_task_btf" in btf.enumerators("bpf_func_id") if btf else None
        ),
        preemptible=_preemptible(system.version),
        kernel_memory_readable=trial.kernel_memory_readable(),
        kprobes=_exists(_KPROBE_PMU),
        tracefs=_any(map(_exists, _TRACEFS)),
        kptr_restrict=_number(_KPTR_RESTRICT),
        perf_event_paranoid=_number(_PERF_EVENT_PARANOID),
        tables_are_locked_memory=trial.tables_are_locked_memory(),
        five_level_page_tables=_five_level_page_tables(),
        behavior=behavior.observe(),
        bcc_version=bcc[0],
        bcc_impostor=bcc[1],
        functions={name: _function(name, btf) for name in TRACED_FUNCTIONS},
    )


def read_btf() -> tuple[BTF | None, str | None]:
    """The running kernel's types, or None and why they cannot be had."""
    try:
        return BTF.of_running_kernel(), None
    except FileNotFoundError:
        return None, "it was built without CONFIG_DEBUG_INFO_BTF"
    except OSError as error:
        return None, error.strerror
    except BTFError as error:
        return None, error.what
