"""The text of the BPF programs: `bpf/` after the definitions of this plan and these filters."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from pte_trace.counted.packed import LAYOUT
from pte_trace.effort import Effort
from pte_trace.filters import Filters
from pte_trace.host.facts import CAST, CAST_TYPES, TRACED_FUNCTIONS
from pte_trace.host.plan import How, Plan
from pte_trace.kernel import kernel_types
from pte_trace.kernel.btf import BTF

# In this order: BCC compiles one text, and rewrites map accesses in that text only.
SOURCES = (
    "counters.h",
    "records.h",
    "access.h",
    "cgroups.h",
    "tasks.h",
    "vma.h",
    "pagetable.h",
    "protected.h",
    "inspection.h",
    "walk.h",
    "stacks.c",
    "faults.c",
    "protection.c",
    "huge.c",
    "follow.c",
    "attach.c",
)

DEFAULT_VMAS = 16384
# What the kernel keeps beside each key and value of a hash (struct htab_elem).
_ELEMENT = 48
_OF_SESSIONS = ("bpf_session_is_return", "bpf_session_cookie")


@dataclass(frozen=True)
class Capacity:
    """Room in the kernel, in entries, for what is seen between two readings.

    Of VMAs (``records``), of processes whose VMAs find no room (``remainders``), of names
    (``files``), of mappings that mmap() made (``births``), and of calls of ``threads`` at one time.
    """

    records: int = DEFAULT_VMAS
    remainders: int = 512
    files: int = DEFAULT_VMAS // 8
    births: int = DEFAULT_VMAS // 8
    threads: int = 4096

    @classmethod
    def of(cls, vmas: int) -> Capacity:
        """What so many VMAs take: their names and births grow with them."""
        return cls(records=vmas, files=max(64, vmas // 8), births=max(64, vmas // 8))

    @property
    def timings(self) -> int:
        """A quarter as many as VMAs: of most not one fault is timed between two readings."""
        return (self.records + self.remainders + 3) // 4

    @property
    def places(self) -> int:
        """Of some of the last interval's VMAs too: the table of places forgets the oldest first."""
        return self.records + self.records // 2

    @property
    def kernel_bytes(self) -> int:
        """What these tables take of the kernel's memory, whether they are used or not.

        Without what does not grow with them: some 2 MB, and 4 where processes are followed.
        """
        sizes = LAYOUT
        arrays = (self.records + self.remainders) * sizes.record_size + (
            self.timings * sizes.timing_size
        )
        names = self.files * (_ELEMENT + sizes.file_key_size + sizes.file_size)
        births = self.births * (_ELEMENT + sizes.birth_size)
        # A hash, and where the record is; and a bucket for each.
        places = self.places * (_ELEMENT + 16 + 16)
        taken: int = 2 * (arrays + names) + births + places
        return taken


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
    parts += _definitions(plan, filters, capacity, effort, btf)
    for name in SOURCES:
        parts += [f'#line 1 "bpf/{name}"', source(name)]
    return "\n".join(parts)


def _definitions(
    plan: Plan, filters: Filters, capacity: Capacity, effort: Effort, btf: BTF
) -> Iterator[str]:
    yield f"#define MAX_RECORDS {capacity.records}"
    yield f"#define MAX_REMAINDERS {capacity.remainders}"
    yield f"#define MAX_FILES {capacity.files}"
    yield f"#define MAX_THREADS {capacity.threads}"
    yield f"#define MAX_BIRTHS {capacity.births}"
    yield f"#define MAX_TIMINGS {capacity.timings}"
    yield f"#define MAX_PLACES {capacity.places}"
    yield f"#define DIRECT {int(plan.follow_btf_pointers)}"
    if plan.current_task_btf:
        yield "#define HAVE_CURRENT_TASK_BTF 1"
    yield f"#define INSPECT {int(effort.inspects)}"
    if effort.inspect is not None:
        yield f"#define MAX_TABLES {effort.inspect}ULL"
    yield f"#define COSTS {effort.costs}"
    yield f"#define STACKS {effort.stacks}"
    yield f"#define PAGE_TABLE_LEVELS {plan.page_tables.levels}"
    yield f"#define OPTIMIZED {int(plan.page_tables.optimized)}"
    yield f"#define HUGE_PAGES_REFUSED {int(plan.page_tables.huge_pages_refused)}"
    yield f"#define CLEAN_PAGES_REFUSED {int(plan.page_tables.clean_pages_refused)}"
    yield f"#define SOFT_DIRTY {int(plan.page_tables.soft_dirty)}"
    for function in TRACED_FUNCTIONS:
        yield f"#define TRACED_{function} {int(function in plan.functions)}"
    attachments = plan.functions.values()
    hows = {each.how for each in attachments}
    yield f"#define PROBES {int(hows != {How.FENTRY})}"
    yield f"#define SESSIONS {int(How.SESSION in hows)}"
    yield f"#define LIFE_PROBES {int(plan.life_probes)}"
    yield from _ids(plan, btf)
    for each in attachments:
        yield f"#define FENTRY_{each.function} {int(each.how is How.FENTRY)}"
        yield f"#define SESSION_{each.function} {int(each.how is How.SESSION)}"
        yield f"#define HOW_{each.function} {each.how.name}"
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
    if filters.by_cgroup:
        yield "#define FILTER_CGROUP 1"
    if filters.unit is not None or filters.container is not None:
        yield "#define FILTER_CGROUP_NAME 1"


def _ids(plan: Plan, btf: BTF) -> Iterator[str]:
    """What the kernel's types call the functions and the types that programs name to it."""
    yield f"#define CASTS {int(plan.casts)}"
    functions = [CAST] * plan.casts
    if any(each.how is How.SESSION for each in plan.functions.values()):
        functions += _OF_SESSIONS
    for name in functions:
        yield f"#define ID_{name} {btf.function_id(name)}"
    for name in CAST_TYPES if plan.casts else ():
        yield f"#define ID_{name} {btf.struct_id(name)}"
