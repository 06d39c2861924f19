"""The shape of the JSON document, schema 1: what is not a counter, field by field.

`views/document.py` and its neighbours write it, and tests/checked.py holds them to it;
`views/schema.py` makes the published schema of them and of the counters.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from pte_trace.counted.counters import PROTECTION_CHANGES, WRITE_FAULTS
from pte_trace.counted.packed import KINDS
from pte_trace.host.behavior import Behavior
from pte_trace.host.plan import How

Release = Annotated[str, "As `uname -r` has it."]
Address = Annotated[str, "Hexadecimal, with 0x before it."]
Seconds = Annotated[float, "In seconds."]
Cgroup = Annotated[str | None, "The cgroup's path (version 2); null: it is not known."]
Count = Annotated[int, ("minimum", 0)]


class Kernel(TypedDict):
    """The kernel that was traced."""

    release: Release
    optimization: Annotated[
        bool | None, "Whether mprotect() makes pages writable at once; null: it is not clear."
    ]


class Hook(TypedDict):
    """How a kernel function is hooked."""

    attached: Annotated[str, "The function in whose place it is."]
    how: Annotated[str, ("enum", tuple(how.value for how in How))]
    degraded: Annotated[str | None, "What is lost by it, in a sentence."]


class Process(TypedDict):
    """A process."""

    pid: Count
    comm: str
    cgroup: Cgroup
    unit: Annotated[str | None, "The systemd unit that the cgroup is named for."]
    container: Annotated[str | None, "The id of the container that the cgroup is named for."]
    pod: Annotated[str | None, "The uid of the pod that the cgroup is named for."]


class Place(TypedDict):
    """A mapping of a process."""

    pid: Count
    comm: str
    start: Address
    end: Address
    perms: Annotated[str, "As /proc/PID/maps has them."]
    kind: Annotated[str, ("enum", KINDS)]
    name: str


class Cost(TypedDict):
    """The time of faults, of those that were timed."""

    count: Count
    sum: Annotated[int, "In nanoseconds."]
    log2: Annotated[
        list[Count], "How many took 2^n up to 2^(n+1) ns, from n = 0 to the last that is not 0."
    ]


class Health(TypedDict):
    """What got lost, and what tracing cost."""

    map_full: Annotated[Count, "Events that found no room for their mapping."]
    missed_runs: Annotated[Count, "Runs of programs that the kernel skipped."]
    probe_seconds: Annotated[
        float | None, "Time in the programs; null: kernel.bpf_stats_enabled is off."
    ]
    names_full: Annotated[Count, "Times that a name found no room."]
    timings_full: Annotated[Count, "Faults that were not timed for want of room."]


class Saved(TypedDict):
    """What was saved at most, by an estimate."""

    efficacy: Annotated[float | None, "Made writable of those and the avoidable faults."]
    seconds_saved_at_most: Seconds | None
    estimated_from: Annotated[str | None, "What the cost of a fault was measured on."]


class Savings(Saved):
    """What was saved at most, by an estimate, and what it rests on."""

    avoidable_faults: Count
    reuse_fault_ns: Annotated[float | None, "The mean time of a wp_reuse fault."]


class Frame(TypedDict):
    """A place on a stack."""

    address: Address
    function: str | None
    file: Annotated[str | None, "[jit] for code in no file; null: not known to be code."]
    file_address: Address | None
    unnamed: Annotated[str | None, "Why it has no name."]


class Stack(TypedDict):
    """From where in a program something was counted, the innermost place first."""

    pid: Count
    start: Annotated[Address, "Of the mapping."]
    end: Address
    counted: Annotated[str, ("enum", (PROTECTION_CHANGES.name, WRITE_FAULTS.name))]
    cause: Annotated[str | None, "Of a protection change."]
    outcome: Annotated[str | None, "Of a write fault."]
    origin: Annotated[
        str | None,
        "Of a write fault, who wrote: user (the program itself), kernel (on its behalf: frames say"
        " where it called it), remote (another process or a kernel thread: there are no frames).",
    ]
    count: Annotated[Count, "How often; of a sample where one_of is not 1."]
    frames: list[Frame]


class Stacks(TypedDict):
    """Of `--stacks`."""

    one_of: Annotated[Count, "One of so many faults and changes is in these stacks."]
    lost: Annotated[Count, "Faults, changes and mappings of code that found no room so far."]
    stacks: list[Stack]


class CallSite(TypedDict):
    """From where protection was changed, the innermost function first."""

    cause: str
    calls: Count
    frames: list[Frame]


class Finding(TypedDict):
    """Something that holds of a mapping, with the counts that show it."""

    finding: str
    what: str
    evidence: Annotated[dict[str, int | bool | None], "By field of this document."]
    not_known: Annotated[str | None, "What these counts cannot tell."]
    remedy: Annotated[str | None, "What would have to differ."]


class Explanation(TypedDict):
    """A mapping's story."""

    pid: Count
    start: Address
    end: Address
    name: str
    cgroup: Cgroup
    ptes_not_inspected: dict[str, Count] | None
    seconds_saved_at_most: Seconds | None
    call_sites: list[CallSite] | None
    findings: list[Finding]


class Row(TypedDict):
    """Counters, as counters.py declares them."""


class ProcessRow(Process, Row):
    """A process and its counters."""


class VmaRow(Place, Row):
    """A mapping and its counters."""


class Run(TypedDict):
    """One of a recording's runs."""

    run: Count
    duration_s: Seconds
    totals: Row


class Document(TypedDict):
    """What `run`, `top`, `record`, `explain` and `report` write as JSON."""

    schema: Literal[1]
    kernel: Kernel
    hooks: Annotated[dict[str, Hook], "By the function that is wanted."]
    duration_s: Seconds
    totals: Row
    processes: Annotated[list[ProcessRow], "They add up to the totals."]
    vmas: Annotated[list[VmaRow], "They add up to the processes."]
    health: Health
    savings: Savings
    stacks: Annotated[Stacks | None, "null without --stacks."]
    behavior: NotRequired[Annotated[Behavior, "Of `explain`: what the kernel was found to do."]]
    explanations: NotRequired[list[Explanation]]
    time: NotRequired[Annotated[str, "Of `record`: when the interval ended."]]
    run: NotRequired[Annotated[Count, "Of `record`: which run it is of."]]
    recording: NotRequired[Annotated[dict[str, Any], "Of `report`: the recording's metadata."]]
    runs: NotRequired[Annotated[list[Run], "Of `report`: each run."]]
