"""From facts to a plan: which hook is attached where and how, and what that costs.

Pure: the same facts give the same plan, so every branch is tested by taking
one fact away from a capable host.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import product

from pte_trace.host.facts import FunctionFacts, HostFacts

_ROOT = "Run it as root: sudo pte-trace"
_ALLOW_PERF_EVENTS = "sudo sysctl kernel.perf_event_paranoid=2"
_CONTAINER = (
    "Give the container CAP_BPF and CAP_PERFMON (docker run --cap-add BPF --cap-add PERFMON), or"
    " run pte-trace on the host."
)
_LAB = "pte-trace lab run -- pte-trace run -- CMD"


class How(Enum):
    """The way a program is attached."""

    FENTRY = "fentry"
    SESSION = "kprobe.session"
    KPROBE = "kprobe"


_PROBES = {
    How.FENTRY: "BPF trampoline (fentry)",
    How.SESSION: "kprobe session",
    How.KPROBE: "kprobe",
}


@dataclass(frozen=True)
class Hook:
    """A kernel function we attach to, and what stands in for it where it was inlined.

    ``degraded_without``: what is worse where it cannot be had; None where tracing needs it, and
    nothing is worse where ``missed`` says so. ``locked``: where we look at it, it holds the lock of
    a page table. ``entered``: we look at its entry only. ``cheap_only``: probes cost more there
    than what its stand-in does instead. ``only_with``: another hook that it adds to; nothing is
    missed without it where that one is missing.
    """

    name: str
    stand_in: str | None
    degraded_by_stand_in: str | None = None
    mend: str = ""
    degraded_without: str | None = None
    locked: bool = False
    entered: bool = False
    cheap_only: bool = False
    only_with: str | None = None
    missed: Callable[[HostFacts], bool] = lambda facts: True


def _there(function: str) -> Callable[[HostFacts], bool]:
    """For what no compiler takes away: a kernel without it does nothing of the kind."""
    return lambda facts: (
        facts.functions.get(function, FunctionFacts()).parameters is not None
        or facts.btf is not True
    )


def _hints_are_mapped_writable(facts: HostFacts) -> bool:
    """Since 6a56ccbcf6c6, which came with what `clean_pages` tries (Linux 6.2)."""
    return facts.behavior.clean_pages is not False and facts.behavior.optimization is not False


def _hook_of_huge_pages(name: str, degraded: str, *, locked: bool = False) -> Hook:
    return Hook(
        name,
        None,
        degraded_without=f"{name} is not traceable here; {degraded}",
        mend=f"A kernel where a trampoline or a kprobe can be put on {name} mends this.",
        locked=locked,
        entered=True,
        missed=_there(name),
    )


HOOKS = (
    Hook(
        "change_pte_range",
        "change_protection",
        "change_pte_range cannot have a trampoline here (inlined, more parameters than that takes,"
        " or a kernel that may be preempted); using its caller change_protection, and page tables"
        " are looked for from the top.",
        "A kernel from 6.6 on that has it out of line (built with noinline on it) and is not"
        " preempted in its own code mends this.",
        cheap_only=True,
    ),
    Hook("change_protection", None),
    Hook("do_wp_page", None, locked=True, entered=True),
    Hook("handle_mm_fault", None),
    _hook_of_huge_pages(
        "do_huge_pmd_wp_page",
        "write faults of huge pages are counted as other, but where one is split.",
    ),
    _hook_of_huge_pages(
        "pmdp_set_access_flags",
        "of two threads that write to one huge page at once both may count a reuse.",
        locked=True,
    ),
    _hook_of_huge_pages("__split_huge_pmd", "huge pages that are split are not counted."),
    _hook_of_huge_pages("hugetlb_fault", "write faults of hugetlb pages are counted as other."),
    _hook_of_huge_pages(
        "handle_userfault",
        "what is handed to a userfaultfd monitor is counted as other, but for write-protected"
        " small pages.",
    ),
    Hook(
        "numa_migrate_check",
        None,
        degraded_without="What NUMA hints made writable is not counted: this kernel has no"
        " numa_migrate_check to see it in (Linux 6.12), or it is not traceable.",
        mend="Linux 6.12 or newer.",
        locked=True,
        missed=_hints_are_mapped_writable,
    ),
    Hook(
        "migrate_misplaced_folio_prepare",
        None,
        degraded_without="migrate_misplaced_folio_prepare is not traceable here; what NUMA hints"
        " made writable is not counted of pages that could not be moved to the other node.",
        mend="A kernel where a trampoline or a kprobe can be put on"
        " migrate_misplaced_folio_prepare mends this.",
        locked=True,
        only_with="numa_migrate_check",
        missed=_there("migrate_misplaced_folio_prepare"),
    ),
    Hook(
        "copy_page_range",
        None,
        degraded_without="copy_page_range is not traceable here; what fork() write-protected is not"
        " counted.",
        mend="A kernel where a trampoline or a kprobe can be put on copy_page_range mends this.",
        entered=True,
    ),
    # Tells a mapping put where another one was from a part mprotect split off.
    Hook(
        "mmap_region",
        None,
        mend="A kernel where a trampoline or a kprobe can be put on mmap_region mends this.",
        degraded_without="mmap_region is not traceable here; a mapping put in the place of"
        " another of the same name is shown as one row with it.",
    ),
)

# The parameters the programs use of each function, by the kernel's names.
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "change_pte_range": ("vma", "pmd", "addr", "end", "cp_flags"),
    "change_protection": ("vma", "start", "end", "cp_flags"),
    "do_wp_page": ("vmf",),
    "handle_mm_fault": ("vma", "address", "flags"),
    "do_huge_pmd_wp_page": ("vmf",),
    "pmdp_set_access_flags": ("pmdp", "entry"),
    "__split_huge_pmd": ("vma", "pmd"),
    "hugetlb_fault": ("mm", "address", "flags"),
    "handle_userfault": ("vmf", "reason"),
    "numa_migrate_check": ("vmf", "writable"),
    "migrate_misplaced_folio_prepare": ("vma",),
    "copy_page_range": ("src_vma",),
    "mmap_region": ("file", "len", "vm_flags", "pgoff"),
}


@dataclass(frozen=True)
class Attachment:
    """Where one hook is attached: ``parameters`` are the function's, by name, in order."""

    hook: str
    function: str
    how: How
    parameters: tuple[str, ...]
    degraded: str | None


@dataclass(frozen=True)
class Refusal:
    """Why this host cannot be traced, and how to mend it."""

    why: str
    mend: str


@dataclass(frozen=True)
class PageTables:
    """How to look at page tables, and what this kernel's mprotect() makes of PTEs."""

    levels: int = 4
    optimized: bool = True
    clean_pages_refused: bool = False
    huge_pages_refused: bool = False
    soft_dirty: bool = False


@dataclass(frozen=True)
class Plan:
    """What to attach. Nothing is attached where ``refusal`` is set.

    ``by_process`` is set where everything can be traced, but not what is asked for by PID, nor
    a command. ``needless`` hooks are not attached, and nothing is missed. ``life_probes``: what
    processes do is told by kprobes, since a tracepoint's program is skipped as a trampoline's is.
    """

    attachments: Mapping[str, Attachment]
    refusal: Refusal | None
    by_process: Refusal | None = None
    needless: frozenset[str] = frozenset()
    follow_btf_pointers: bool = False
    casts: bool = False
    current_task_btf: bool = False
    life_probes: bool = False
    page_tables: PageTables = PageTables()

    @property
    def functions(self) -> Mapping[str, Attachment]:
        """The attachments by function: two hooks may share one."""
        return {attachment.function: attachment for attachment in self.attachments.values()}


_FOREIGN_PIDS = Refusal(
    "In a PID namespace (a container's) neither -p nor a command can be traced: the kernel knows"
    " processes by the host's PIDs, which are also those shown.",
    "Run it on the host, or in a container with the host's PIDs (docker run --pid=host); or trace"
    " the whole machine, a name (-c) or a cgroup.",
)


def make(facts: HostFacts, ways: tuple[How, ...] = tuple(How)) -> Plan:
    """Decide from *facts* how to trace this host, trying *ways* in order of preference.

    But a kernel that may be preempted in its own code skips a program behind a trampoline as long
    as another task's run of it waits for that CPU: see `_preferred`.
    """
    refusal = _refusal(facts)
    if refusal:
        return Plan({}, refusal)
    attachments: dict[str, Attachment] = {}
    for hook in HOOKS:
        attachment = _attach(hook, facts, ways) if _adds(hook, attachments) else None
        if attachment is not None:
            attachments[hook.name] = attachment
        elif hook.degraded_without is None:  # tracing needs it
            return Plan({}, _unattachable(hook, facts, ways))
    direct = facts.casts is True or not any_probe(attachments)
    return Plan(
        attachments,
        None,
        needless=frozenset(
            hook.name for hook in HOOKS if hook.name not in attachments and not hook.missed(facts)
        ),
        by_process=_FOREIGN_PIDS if facts.initial_pid_namespace is False else None,
        follow_btf_pointers=direct,
        casts=facts.casts is True,
        current_task_btf=direct and facts.current_task_btf is True,
        life_probes=facts.life_probes is True,
        page_tables=_page_tables(facts),
    )


def _page_tables(facts: HostFacts) -> PageTables:
    """What is not known is taken to be as on a kernel of today, without soft-dirty bits."""
    return PageTables(
        levels=5 if facts.five_level_page_tables else 4,
        optimized=facts.behavior.optimization is not False,
        clean_pages_refused=facts.behavior.clean_pages is False,
        huge_pages_refused=facts.behavior.huge_pages is False,
        soft_dirty=facts.behavior.soft_dirty is True,
    )


def degraded(
    attachments: Mapping[str, Attachment], needless: Collection[str]
) -> Mapping[Hook, str]:
    """The hooks that do less than they should, and what is worse for it."""
    found = {}
    for hook in HOOKS:
        if hook.name in needless or not _adds(hook, attachments):
            continue
        attachment = attachments.get(hook.name)
        said = attachment.degraded if attachment else hook.degraded_without
        if said:
            found[hook] = said
    return found


def capabilities(facts: HostFacts, attachments: Mapping[str, Attachment]) -> Mapping[str, str]:
    """What tracing needs instead of root: each capability, and its reason."""
    needed = {
        "CAP_BPF": "to load the programs and to read their tables",
        "CAP_PERFMON": "to attach the programs, which read kernel memory",
    }
    if any_probe(attachments) and facts.preemptible is not False:
        needed["CAP_SYS_NICE"] = (
            "to keep its CPU while it reads: what kprobes run there is skipped until it has read;"
            " not where RLIMIT_RTPRIO is 1 or more"
        )
    if any_kprobe(attachments) and _perf_events_are_roots(facts):
        needed["CAP_SYS_ADMIN"] = f"to put kprobes; not after: {_ALLOW_PERF_EVENTS}"
    if facts.tables_are_locked_memory:
        needed["CAP_SYS_RESOURCE"] = (
            "to make tables beyond RLIMIT_MEMLOCK; not where that is unlimited"
        )
    return needed


def capabilities_to_read(facts: HostFacts, attachments: Mapping[str, Attachment]) -> frozenset[str]:
    """Those of `capabilities` that are still needed when the programs are attached.

    CAP_BPF because up to Linux 5.18 bpf(2) asks for it at each call (c8644cd0efe7); whether it
    does is tried where rights are given up.
    """
    return frozenset({"CAP_BPF", "CAP_SYS_NICE"} & capabilities(facts, attachments).keys())


def any_kprobe(attachments: Mapping[str, Attachment]) -> bool:
    """Whether one of *attachments*, by hook or by function, is a kprobe."""
    return any(attachment.how is How.KPROBE for attachment in attachments.values())


def any_probe(attachments: Mapping[str, Attachment]) -> bool:
    """Whether one of *attachments* is anything but a trampoline."""
    return any(attachment.how is not How.FENTRY for attachment in attachments.values())


def _perf_events_are_roots(facts: HostFacts) -> bool:
    """Debian's kernels know a level above 2, which asks for CAP_SYS_ADMIN."""
    return facts.perf_event_paranoid is not None and facts.perf_event_paranoid > 2


def _refusal(facts: HostFacts) -> Refusal | None:
    """The first thing that rules tracing out altogether."""
    if facts.machine != "x86_64":
        return Refusal(
            f"pte-trace knows x86-64 page tables only; this machine is {facts.machine}.",
            "Run it on an x86-64 machine, or in `pte-trace lab run` there.",
        )
    if facts.lockdown == "confidentiality":
        return Refusal(
            "Kernel lockdown (confidentiality) forbids BPF programs to read kernel memory.",
            "Boot without lockdown=confidentiality (and Secure Boot's policy that sets it).",
        )
    if facts.bpf_errno == errno.ENOSYS:
        return Refusal(
            "This kernel has no bpf system call (CONFIG_BPF_SYSCALL).",
            f"Boot a kernel with CONFIG_BPF_SYSCALL=y, or use a lab guest: {_LAB}",
        )
    if facts.bpf_errno in (errno.EPERM, errno.EACCES):
        if facts.capabilities is not None and "CAP_SYS_ADMIN" in facts.capabilities:
            return Refusal(
                "This kernel refuses BPF programs even to root, as a locked-down host or a"
                " container's seccomp filter does.",
                f"Run pte-trace on the host itself, or use a lab guest: {_LAB}",
            )
        return Refusal("Tracing needs the right to load BPF programs.", _more_rights(facts))
    if facts.ftrace_enabled is False:
        return Refusal(
            "Function tracing is switched off (kernel.ftrace_enabled=0): no program that is put on"
            " a function would run.",
            "sudo sysctl kernel.ftrace_enabled=1; where that fails, the kernel has given ftrace up"
            " (dmesg says why) until it is booted again.",
        )
    if facts.btf is not True:
        return Refusal(
            f"This kernel's type information (BTF) cannot be read: {facts.btf_problem}.",
            "Boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as Debian's are.",
        )
    if facts.missing_members:
        return Refusal(
            f"This kernel's types lack {', '.join(facts.missing_members)}.",
            "Report this kernel's release at the project's issue tracker.",
        )
    if facts.kernel_memory_readable is False:
        return Refusal(
            "This kernel does not let BPF programs read kernel memory.",
            "Boot without lockdown, or run pte-trace on the host instead of in a container.",
        )
    if facts.bcc_impostor:
        return Refusal(
            f"The module `bcc` in {facts.bcc_impostor} is not BCC but another package of that"
            " name.",
            "Remove it (pip uninstall bcc, or take it off PYTHONPATH), and have BCC itself:"
            " sudo apt install python3-bpfcc",
        )
    if facts.bcc_version is None:
        return Refusal(
            "The Python module of BCC is not installed.",
            "sudo apt install python3-bpfcc; a virtual environment sees it if made with"
            " /usr/bin/python3 -m venv --system-site-packages",
        )
    return None


def _more_rights(facts: HostFacts) -> str:
    return _CONTAINER if facts.root else _ROOT


def _adds(hook: Hook, attachments: Mapping[str, Attachment]) -> bool:
    """Whether what *hook* adds to is there."""
    return hook.only_with is None or hook.only_with in attachments


def _preferred(hook: Hook, facts: HostFacts, ways: tuple[How, ...]) -> tuple[How, ...]:
    """*ways* that fit *hook*, the best first.

    What probes run is not preempted, so none of it is skipped; nor is a trampoline's program where
    the lock of a page table is held, but on a real-time kernel. A session is at both ends of a
    call, and it is of use only where it has room for more calls at once than a kretprobe.
    """
    without_sessions = tuple(how for how in ways if how is not How.SESSION)
    if facts.preemptible is False or (hook.locked and facts.realtime is False):
        return without_sessions
    one_end = hook.locked or hook.entered
    fitting = without_sessions if one_end or not facts.sessions_unbounded else ways
    return tuple(sorted(fitting, key=lambda how: how is How.FENTRY))


def _attach(hook: Hook, facts: HostFacts, ways: tuple[How, ...]) -> Attachment | None:
    """A stand-in reached in the preferred way comes before the function itself in another one."""
    for how, name in product(
        _preferred(hook, facts, ways), filter(None, (hook.name, hook.stand_in))
    ):
        function = facts.functions.get(name, FunctionFacts())
        possible = {
            How.FENTRY: function.fentry,
            How.SESSION: function.session,
            How.KPROBE: function.kprobe,
        }[how]
        if name == hook.name and hook.cheap_only and how is not How.FENTRY:
            continue
        if possible and set(ARGUMENTS[name]) <= set(function.parameters or ()):
            assert function.parameters is not None
            degraded = hook.degraded_by_stand_in if name == hook.stand_in else None
            return Attachment(hook.name, name, how, function.parameters, degraded)
    return None


def _unattachable(hook: Hook, facts: HostFacts, ways: tuple[How, ...]) -> Refusal:
    things = [_PROBES[how] for how in ways]
    tried = f"Neither a {' nor a '.join(things)}" if len(ways) > 1 else f"No {things[0]}"
    names = " or on its stand-in ".join(filter(None, (hook.name, hook.stand_in)))
    why = f"{tried} can be put on {names}."
    if set(ways) != set(How) and make(facts).refusal is None:
        return Refusal(why, "Leave out --attach: this kernel can be traced in another way.")
    if facts.kprobes is False:
        return Refusal(
            why,
            "Boot a kernel with CONFIG_KPROBES=y and CONFIG_PERF_EVENTS=y, or use a lab guest:"
            f" {_LAB}",
        )
    if facts.kprobes_armed is False:
        return Refusal(
            f"{why[:-1]}: kprobes are switched off.",
            "echo 1 | sudo tee /sys/kernel/debug/kprobes/enabled",
        )
    if facts.capabilities is not None and not facts.capabilities & {"CAP_SYS_ADMIN", "CAP_PERFMON"}:
        return Refusal(why, _more_rights(facts))
    if (
        facts.capabilities is not None
        and "CAP_SYS_ADMIN" not in facts.capabilities
        and _perf_events_are_roots(facts)
    ):
        return Refusal(why, f"Give it CAP_SYS_ADMIN, or allow others perf: {_ALLOW_PERF_EVENTS}")
    return Refusal(why, "Run `pte-trace doctor` for what was tried on this kernel.")
