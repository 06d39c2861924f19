"""What is so on this host. Collects, does not judge: `pte_trace.host.plan` decides.

None says that a thing is not known, which is not the same as False.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pte_trace.host import behavior
from pte_trace.host.behavior import Behavior
from pte_trace.kernel import kernel_types, remembered, trial
from pte_trace.kernel.btf import BTF, BTFError
from pte_trace.kernel.remembered import RememberedBTF
from pte_trace.kernel.syscalls import unlimited_memory

CAPABILITIES = {"CAP_SYS_ADMIN": 21, "CAP_SYS_RESOURCE": 24, "CAP_PERFMON": 38, "CAP_BPF": 39}
TRACED_FUNCTIONS = (
    "change_pte_range",
    "change_protection",
    "do_wp_page",
    "handle_mm_fault",
    "do_huge_pmd_wp_page",
    "pmdp_set_access_flags",
    "__split_huge_pmd",
    "hugetlb_fault",
    "handle_userfault",
    "numa_migrate_check",
    "migrate_misplaced_folio_prepare",
    "copy_page_range",
    "mmap_region",
)
# Where a process is born, executes and has ended, beside the tracepoints that say so.
LIFE_FUNCTIONS = ("wake_up_new_task", "proc_exec_connector", "exit_sem")

# The function of the kernel that makes a typed pointer of an address, and the types asked for.
CAST = "bpf_rdonly_cast"
CAST_TYPES = ("pgprot", "vm_area_struct", "vm_fault")
_TRACEFS = (Path("/sys/kernel/tracing/events"), Path("/sys/kernel/debug/tracing/events"))
_STATUS = Path("/proc/self/status")
_CGROUPS = Path("/proc/self/cgroup")
_LOCKDOWN = Path("/sys/kernel/security/lockdown")
_KPROBE_PMU = Path("/sys/bus/event_source/devices/kprobe")
_KPROBES_ARMED = Path("/sys/kernel/debug/kprobes/enabled")
_FTRACE_ENABLED = Path("/proc/sys/kernel/ftrace_enabled")
_PID_NAMESPACE = Path("/proc/self/ns/pid")
# PROC_PID_INIT_INO (linux/proc_ns.h), since 98f842e675f9, Linux 3.8.
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC
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
    session: bool | None = None


@dataclass(frozen=True)
class HostFacts:
    """What was found out about this host.

    ``ftrace_enabled`` and ``kprobes_armed``: whether what is put on functions runs at all.
    ``realtime``: whether what holds a lock may be preempted too. ``sessions_unbounded``: whether a
    program at both ends of a function (kprobe.session) has room for any number of calls at once.
    ``life_probes``: whether there can be a kprobe where a process is born, executes and ends.
    ``casts``: whether a probe's program may follow typed pointers (bpf_rdonly_cast()).
    ``initial_pid_namespace``: whether we and the kernel call processes by the same PIDs.
    ``cgroups``: of which versions they are, ``1``, ``2`` or ``both``.
    """

    release: str | None = None
    machine: str | None = None
    root: bool | None = None
    initial_pid_namespace: bool | None = None
    cgroups: str | None = None
    capabilities: frozenset[str] | None = None
    lockdown: str | None = None
    bpf_errno: int | None = None
    btf: bool | None = None
    btf_problem: str | None = None
    missing_members: tuple[str, ...] = ()
    current_task_btf: bool | None = None
    preemptible: bool | None = None
    realtime: bool | None = None
    sessions_unbounded: bool | None = None
    life_probes: bool | None = None
    casts: bool | None = None
    kernel_memory_readable: bool | None = None
    kprobes: bool | None = None
    kprobes_armed: bool | None = None
    ftrace_enabled: bool | None = None
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
        found = re.search(rb"^CapEff:\s*([0-9a-f]+)$", _STATUS.read_bytes(), re.MULTILINE)
    except OSError:
        return None
    if not found:
        return None
    effective = int(found[1], 16)
    return frozenset(name for name, bit in CAPABILITIES.items() if effective >> bit & 1)


def _lockdown() -> str | None:
    """``none``, ``integrity`` or ``confidentiality``: the one in brackets."""
    try:
        found = re.search(r"\[(\w+)\]", _LOCKDOWN.read_text())
    except (OSError, ValueError):
        return None
    return found[1] if found else None


def _number(setting: Path) -> int | None:
    try:
        return int(setting.read_text())
    except (OSError, ValueError):
        return None


def _switch(setting: Path) -> bool | None:
    number = _number(setting)
    return None if number is None else bool(number)


def _ftrace_enabled() -> bool | None:
    """A kernel that found fault with its own ftrace has switched it off for good, and answers so
    (ENODEV).
    """
    try:
        return bool(int(_FTRACE_ENABLED.read_text()))
    except ValueError:
        return None
    except OSError as error:
        return False if error.errno == errno.ENODEV else None


def _cgroups() -> str | None:
    """That of version 2 is 0, and named for no controllers."""
    try:
        lines = _CGROUPS.read_bytes().splitlines()
    except OSError:
        return None
    of_2 = sum(line.startswith(b"0::") for line in lines)
    return {(0, False): None, (0, True): "1", (1, False): "2"}.get(
        (of_2, len(lines) > of_2), "both"
    )


def _initial_pid_namespace() -> bool | None:
    try:
        return _PID_NAMESPACE.stat().st_ino == _INITIAL_PID_NAMESPACE
    except OSError:
        return None


def _five_level_page_tables() -> bool | None:
    """The kernel takes the flag away where it does not use them (check_la57_support())."""
    try:
        text = _CPUINFO.read_text()
    except (OSError, ValueError):
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
    except (OSError, ValueError):
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


@dataclass(frozen=True)
class _Types:
    """What is asked of a kernel's types; of functions the parameters and the type id."""

    missing_members: tuple[str, ...] = ()
    current_task: bool | None = None
    casts: bool | None = None
    sessions_unbounded: bool | None = None
    functions: Mapping[str, tuple[tuple[str, ...] | None, int | None]] = field(default_factory=dict)


def _types(btf: BTF) -> _Types:
    """Raises BTFError."""
    return _Types(
        kernel_types.missing(btf),
        knows_current_task(btf),
        _casts(btf),
        sessions_unbounded(btf),
        {name: (btf.parameters(name), btf.function_id(name)) for name in TRACED_FUNCTIONS},
    )


def _casts(btf: BTF) -> bool:
    function_id, types = btf.function_id(CAST), [btf.struct_id(name) for name in CAST_TYPES]
    return function_id is not None and all(
        type_id is not None and trial.casts(function_id, type_id) for type_id in types
    )


def knows_current_task(btf: BTF) -> bool:
    """Whether a program is told the current task with its type (bpf_get_current_task_btf())."""
    return "BPF_FUNC_get_current_task_btf" in btf.enumerators("bpf_func_id")


def sessions_unbounded(btf: BTF) -> bool | None:
    """Before 4346ba160409, Linux 6.14, each had a rethook, with room for two calls a CPU."""
    if btf.struct_size("fprobe") is None:
        return None
    return btf.member("fprobe", "rethook") is None


class _Probes(NamedTuple):
    """The kinds of probes that would run: others are not tried, for the kernel would take them."""

    fentry: bool
    kprobe: bool
    session: bool


def _function(name: str, types: _Types | None, probes: _Probes) -> FunctionFacts:
    parameters, function_id = types.functions[name] if types else (None, None)
    return FunctionFacts(
        parameters=parameters,
        fentry=probes.fentry and function_id is not None and trial.fentry(function_id),
        kprobe=probes.kprobe and trial.kprobe(name),
        session=trial.session(name) if probes.session else None,
    )


@unlimited_memory()
def collect(
    btf: BTF | None, btf_problem: str | None, bcc: tuple[str | None, str | None]
) -> HostFacts:
    """Look at this host. *btf* is its types where they could be read.

    *bcc* is the version of the BCC module, and the directory of one that is not BCC (see
    `pte_trace.programs.image.bcc_version`). Does not raise.
    """
    system = os.uname()
    types = None
    try:
        types = _types(btf) if btf else None
    except BTFError as error:
        btf_problem = error.problem
    ftrace_enabled, kprobes_armed = _ftrace_enabled(), _switch(_KPROBES_ARMED)
    preemptible = _preemptible(system.version)
    probes = _Probes(
        fentry=ftrace_enabled is not False,
        kprobe=ftrace_enabled is not False and kprobes_armed is not False,
        session=ftrace_enabled is not False and preemptible is not False,
    )
    return HostFacts(
        release=system.release,
        machine=system.machine,
        root=os.geteuid() == 0,
        initial_pid_namespace=_initial_pid_namespace(),
        cgroups=_cgroups(),
        capabilities=_capabilities(),
        lockdown=_lockdown(),
        bpf_errno=trial.bpf_errno(),
        btf=types is not None,
        btf_problem=btf_problem,
        missing_members=types.missing_members if types else (),
        current_task_btf=types.current_task if types else None,
        preemptible=preemptible,
        realtime="PREEMPT_RT" in system.version,
        sessions_unbounded=types.sessions_unbounded if types else None,
        # Tracepoints are as good where nothing is preempted.
        life_probes=preemptible is not False
        and probes.kprobe
        and all(trial.kprobe(name) for name in LIFE_FUNCTIONS),
        casts=types.casts if types else None,
        kernel_memory_readable=trial.kernel_memory_readable(),
        kprobes=_exists(_KPROBE_PMU),
        kprobes_armed=kprobes_armed,
        ftrace_enabled=ftrace_enabled,
        tracefs=_any(map(_exists, _TRACEFS)),
        kptr_restrict=_number(_KPTR_RESTRICT),
        perf_event_paranoid=_number(_PERF_EVENT_PARANOID),
        tables_are_locked_memory=trial.tables_are_locked_memory(),
        five_level_page_tables=_five_level_page_tables(),
        behavior=behavior.observe(),
        bcc_version=bcc[0],
        bcc_impostor=bcc[1],
        functions={name: _function(name, types, probes) for name in TRACED_FUNCTIONS},
    )


def read_btf() -> tuple[RememberedBTF | None, str | None]:
    """The running kernel's types, or None and why they cannot be had."""
    try:
        return remembered.of_running_kernel(), None
    except FileNotFoundError:
        return None, "it was built without CONFIG_DEBUG_INFO_BTF"
    except OSError as error:
        return None, error.strerror
    except BTFError as error:
        return None, error.problem
