"""The text of the BPF programs: `bpf/` after the definitions of this plan and these filters."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from pte_trace import kernel_types
from pte_trace.btf import BTF
from pte_trace.effort import Effort
from pte_trace.facts import TRACED_FUNCTIONS
from pte_trace.filters import Filters
from pte_trace.plan import How, Plan, any_kprobe

# In this order: BCC compiles one text, and rewrites map accesses in that text only.
SOURCES = (
    "records.h",
    "access.h",
    "tasks.h",
    "vma.h",
    "inspection.h",
    "walk.h",
    "faults.c",
    "protection.c",
    "follow.c",
    "stacks.c",
    "attach.c",
)

_MAX_BIRTHS = 8192


@dataclass(frozen=True)
class Capacity:
    """Room in the kernel, in entries, for what is seen between two readings.

    Of VMAs (``records``), and of processes whose VMAs find no room (``remainders``).
    """

    records: int = 16384
    remainders: int = 4096
    files: int = 4096
    threads: int = 16384


@cache
def source_directory() -> Traversable:
    """Where `bpf/` is: inside the installed package, or beside it in a checkout."""
    installed = files("pte_trace") / "bpf"
    return installed if installed.is_dir() else files("pte_trace") / ".." / "bpf"


def source(name: str) -> str:
    """The text of one file of `bpf/`."""
    return (source_directory() / name).read_text("utf-8")


def kernel_tree() -> str:
    """Where BCC finds what it takes for the kernel's source."""
    return os.path.abspath(str(source_directory() / "kernel"))


def text(plan: Plan, filters: Filters, capacity: Capacity, effort: Effort, btf: BTF) -> str:
    """The whole program for the kernel of *btf*, ready for BCC. Raises HostError."""
    parts = ["#include <linux/types.h>", kernel_types.declarations(btf)]
    parts += _definitions(plan, filters, capacity, effort)
    for name in SOURCES:
        parts += [f'#line 1 "bpf/{name}"', source(name)]
    return "\n".join(parts)


def _definitions(plan: Plan, filters: Filters, capacity: Capacity, effort: Effort) -> Iterator[str]:
    yield f"#define MAX_RECORDS {capacity.records}"
    yield f"#define MAX_REMAINDERS {capacity.remainders}"
    yield f"#define MAX_FILES {capacity.files}"
    yield f"#define MAX_THREADS {capacity.threads}"
    yield f"#define MAX_BIRTHS {_MAX_BIRTHS}"
    yield f"#define DIRECT {int(plan.follow_btf_pointers)}"
    if plan.current_task_btf:
        yield "#define HAVE_CURRENT_TASK_BTF 1"
    yield f"#define INSPECT {int(effort.inspects)}"
    if effort.inspect is not None:
        yield f"#define MAX_TABLES {effort.inspect}ULL"
    yield f"#define COSTS {effort.costs}"
    yield f"#define STACKS {int(effort.stacks)}"
    yield f"#define PAGE_TABLE_LEVELS {plan.page_tables.levels}"
    yield f"#define OPTIMIZED {int(plan.page_tables.optimized)}"
    yield f"#define CLEAN_PAGES_REFUSED {int(plan.page_tables.clean_pages_refused)}"
    yield f"#define SOFT_DIRTY {int(plan.page_tables.soft_dirty)}"
    for function in TRACED_FUNCTIONS:
        yield f"#define TRACED_{function} {int(function in plan.functions)}"
    attachments = plan.functions.values()
    yield f"#define KPROBES {int(any_kprobe(plan.functions))}"
    for each in attachments:
        yield f"#define FENTRY_{each.function} {int(each.how is How.FENTRY)}"
        yield f"#define HOOK_{each.function} {TRACED_FUNCTIONS.index(each.function)}"
        parameters = ", ".join(f"u64 {name}" for name in each.parameters)
        yield f"#define PARAMETERS_{each.function} {parameters}"
        for position, name in enumerate(each.parameters):
            yield f"#define AT_{each.function}_{name} {position}"
    if filters.by_process:
        yield "#define FILTER_TGID 1"
    if filters.children:
        yield "#define FOLLOW_CHILDREN 1"
    if filters.comm is not None:
        padded = os.fsencode(filters.comm)[:16].ljust(16, b"\0")
        yield f"#define FILTER_COMM_LOW {int.from_bytes(padded[:8], 'little')}ULL"
        yield f"#define FILTER_COMM_HIGH {int.from_bytes(padded[8:], 'little')}ULL"
    if filters.cgroup is not None:
        yield "#define FILTER_CGROUP 1"
