"""Write docs/results.md: run the benchmarks in two kernels of the lab, and check them.

    python docs/results.py [UNPATCHED PATCHED]
    python docs/results.py heap                   its last section anew, and no other

Instructions are counted (QEMU's -icount), so the file comes out the same each time. Exit
status 1, and no file, where the two kernels do not show what they must.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pte_trace import lab
from pte_trace.bench.results import ACCESSES, PAGE, PHASES
from pte_trace.views.bench import count, duration, ratio, size, time

_FILE = Path(__file__).with_suffix(".md")
_TIMEOUT = 3600
_MACRO = ("--size", "1G", "--loops", "40")
_HEAP_ON = ("bookworm", "trixie")
_HEAP = "## A heap of huge pages"
# With huge pages wherever they fit, as Debian's kernels have them unless told otherwise.
_TRACED_HEAP = """\
echo always >/sys/kernel/mm/transparent_hugepage/enabled
pte-trace run --format json -o /tmp/counted -- python tests/bench/heap.py >/tmp/told
cat /tmp/told /tmp/counted
"""

# The averages in nanoseconds of the first posting, in the order of PHASES.
_SEED = {
    (4096, "memset"): (770, 158, 177, 454),
    (4096, "byte_per_page"): (732, 129, 146, 416),
    (16384, "memset"): (1986, 249, 281, 1232),
    (16384, "byte_per_page"): (1855, 132, 153, 1085),
    (65536, "memset"): (7068, 614, 715, 4367),
    (65536, "byte_per_page"): (6637, 145, 184, 3759),
    (524288, "memset"): (55544, 5106, 5710, 34610),
    (524288, "byte_per_page"): (51353, 1090, 675, 29521),
}
# Seconds without and with the optimization, from its third posting.
_SEED_MACRO = (6.398, 3.780)

_AT_MOST, _AT_LEAST, _AT_LEAST_FROM = 1.3, 2.0, 16384

_INTRODUCTION = """\
# What the optimization is worth

`make results` wrote this file: it boots both kernels of the lab's pair and runs `pte-trace bench`
in them. They are built from one source and differ in one thing, whether `mprotect()` asks for
writable PTEs. It stops with an error where they do not show what they must:

- with the optimization a write after `mprotect(PROT_READ)` and `mprotect(PROT_READ | PROT_WRITE)`
  costs at most 1.3 times a second write, and takes no fault;
- without it, from 16 KiB on, at least twice a second write, and exactly one `wp_reuse` fault per
  page;
- a write after clearing soft-dirty bits takes exactly one `wp_reuse` fault per page on both.

The guests count instructions: one nanosecond is one instruction, in every run. That leaves out
what a real machine adds to a fault (the switch to the kernel and back, cache and TLB misses), and
weighs an instruction that repeats itself, as the one that zeroes a new page, by its repetitions.
What is marked as posted was measured with the optimization on a Ryzen 9 3900X, for its
[first posting](https://lore.kernel.org/all/20220401101334.68859-1-david@redhat.com/) and, the
loops, for its third. Ratios are of averages over {iterations:,} writes; faults are those of each
write. Times are rounded to two digits: how much of the kernel's own bookkeeping falls into a write
is chance.
"""

Document = dict[str, Any]


def main() -> None:
    if sys.argv[1:] == ["heap"]:
        before = _FILE.read_text("utf-8").partition(_HEAP)[0]
        _FILE.write_text(before + "\n".join(_heap()), "utf-8")
        return
    kernels = sys.argv[1:] or ["unpatched", "patched"]
    micro = [_bench(kernel) for kernel in kernels]
    if problems := list(_problems(*micro)):
        sys.exit("\n".join(problems))
    macro = [_bench(kernel, *_MACRO) for kernel in kernels]
    _FILE.write_text("\n".join(_page(kernels, micro, macro)), "utf-8")
    print(f"{_FILE} is written.")


def _bench(kernel: str, *arguments: str) -> Document:
    command = ("pte-trace", "bench", "--format", "json", *arguments)
    print(f"In {kernel}: {' '.join(command)}", file=sys.stderr, flush=True)
    done = lab.run(kernel, command, icount=True, timeout=_TIMEOUT)
    if done.returncode:
        sys.exit(f"{kernel}: {done.stderr.decode(errors='replace')}")
    document: Document = json.loads(done.stdout)
    if document["lost_events"]:
        sys.exit(f"{kernel}: the tracing lost {document['lost_events']} events")
    return document


def _problems(unpatched: Document, patched: Document) -> Iterator[str]:
    """What the two kernels do not show."""
    for name, document in (("unpatched", unpatched), ("patched", patched)):
        for case in document["cases"]:
            where = f"{name}, {case['access']} of {case['size']} bytes"
            pages = case["size"] // PAGE
            cost = case["mprotect_to"]["second"]
            expected = {} if document is patched else {"wp_reuse": pages}
            if _taken(case, "mprotect") != expected:
                yield f"{where}: faults after mprotect: {_taken(case, 'mprotect')}"
            if _taken(case, "soft_dirty") != {"wp_reuse": pages}:
                yield f"{where}: faults after soft-dirty: {_taken(case, 'soft_dirty')}"
            if document is patched and cost > _AT_MOST:
                yield f"{where}: {cost:.2f} times a second write"
            if document is unpatched and case["size"] >= _AT_LEAST_FROM and cost < _AT_LEAST:
                yield f"{where}: only {cost:.2f} times a second write"


def _taken(case: Document, phase: str) -> dict[str, float]:
    if phase not in case["writes"]:
        return {}
    faults = case["writes"][phase]["write_faults"]
    return {outcome: number for outcome, number in faults.items() if number}


def _page(kernels: list[str], micro: list[Document], macro: list[Document]) -> Iterator[str]:
    yield _INTRODUCTION.format(iterations=micro[0]["iterations"])
    for kernel, document in zip(kernels, micro, strict=True):
        yield f"- `{kernel}`: Linux {document['kernel']['release']}"
    yield from ("", "## Write after mprotect, in units of a second write", "")
    yield from _ratios(kernels, micro, "second")
    yield from (
        "",
        "## Write after mprotect, in units of a write after clearing soft-dirty bits",
        "",
    )
    yield from _ratios(kernels, micro, "soft_dirty")
    yield from ("", f"## `pte-trace bench {' '.join(_MACRO)}`", "")
    yield "1 GiB made read-only, writable again and rewritten, 40 times over."
    yield ""
    yield from _macro(kernels, macro)
    for kernel, document in zip(kernels, micro, strict=True):
        yield from ("", f"## Every write, `{kernel}`", "")
        yield from _writes(document)
    yield ""
    yield from _heap()


def _heap() -> Iterator[str]:
    """What is counted of a program with a large heap, beside what the kernel counts of it."""
    found = {kernel: _traced_heap(kernel) for kernel in _HEAP_ON}
    phases = next(iter(found.values()))[0]["phases"]
    yield _HEAP
    yield ""
    yield "A Python program, `tests/bench/heap.py`, has a heap of 384 MiB, 192 huge pages, with"
    yield "`transparent_hugepage=always`. It writes to each small page of them, over and over."
    yield "Beside a child that has them too it does so to 24 huge pages: each is split, and its"
    yield "512 small pages are copied. What that was to the kernel: faults by getrusage(2), few of"
    yield "them Python's own, and huge pages split by /proc/vmstat."
    yield ""
    columns = (f"`{kernel}`: {what}" for kernel in found for what in ("faults", "split"))
    yield from _head("", *columns)
    for phase in phases:
        cells = (told["phases"][phase] for told, _ in found.values())
        yield _row(
            phase,
            *(count(each[name]) for each in cells for name in ("faults", "thp_split_pmd")),
        )
    yield ""
    yield "And what `pte-trace run` says of the mapping when it has ended:"
    yield ""
    yield from _head("", *(f"`{kernel}`" for kernel in found))
    for name, of in _OF_THE_HEAP.items():
        yield _row(name, *(of(row) for _, row in found.values()))
    yield ""


def _by_name(numbers: Document) -> str:
    return ", ".join(f"{count(number)} {name}" for name, number in numbers.items() if number)


_OF_THE_HEAP: dict[str, Callable[[Document], str]] = {
    "write faults": lambda row: _faults(row),
    "huge pages split": lambda row: count(row["pmds_split"]),
    "PTEs made writable": lambda row: count(row["ptes_made_writable"]),
    "PMDs made writable": lambda row: count(row["pmds_made_writable"]),
    "PMDs left read-only": lambda row: _by_name(row["pmds_left_readonly"]) or "none",
}


def _traced_heap(kernel: str) -> tuple[Document, Document]:
    """What the program told, and the row of the mapping that is its heap."""
    print(f"In {kernel}: tests/bench/heap.py", file=sys.stderr, flush=True)
    done = lab.run(kernel, ["sh", "-ec", _TRACED_HEAP], timeout=_TIMEOUT)
    if done.returncode:
        sys.exit(f"{kernel}: {done.stderr.decode(errors='replace')}")
    told, counted = (json.loads(line) for line in done.stdout.splitlines())
    (row,) = (row for row in counted["vmas"] if row["start"] == told["start"])
    return told, row


def _ratios(kernels: list[str], micro: list[Document], to: str) -> Iterator[str]:
    """Both kernels and the posting, side by side."""
    headings = [f"`{kernel}`: {what}" for kernel in kernels for what in ("ratio", "faults")]
    yield from _head("size", "written", *headings, "posted: ratio")
    for cases in zip(*(document["cases"] for document in micro), strict=True):
        cells = [size(cases[0]["size"]), ACCESSES[cases[0]["access"]]]
        for case in cases:
            cells += [ratio(case["mprotect_to"][to]), _faults(case["writes"]["mprotect"])]
        times = dict(zip(PHASES, _SEED[cases[0]["size"], cases[0]["access"]], strict=True))
        yield _row(*cells, ratio(times["mprotect"] / times[to]))


def _macro(kernels: list[str], macro: list[Document]) -> Iterator[str]:
    yield from _head("", *(f"`{kernel}`" for kernel in kernels), "ratio")
    seconds = [document["seconds"] for document in macro]
    took = (duration(each * 1e9) for each in seconds)
    yield _row("time", *took, ratio(seconds[0] / seconds[1]))
    yield _row("faults in each loop", *map(_faults, macro), "")
    posted = (f"{each:.3f} s" for each in _SEED_MACRO)
    yield _row("posted: time", *posted, ratio(_SEED_MACRO[0] / _SEED_MACRO[1]))


def _writes(document: Document) -> Iterator[str]:
    yield from _head("size", "written", "write", "min", "max", "avg", "faults")
    for case in document["cases"]:
        for phase, write in case["writes"].items():
            yield _row(
                size(case["size"]),
                ACCESSES[case["access"]],
                PHASES[phase],
                *(time(write[each]) for each in ("min_ns", "max_ns", "avg_ns")),
                _faults(write),
            )


def _faults(entry: Document) -> str:
    taken = {outcome: number for outcome, number in entry["write_faults"].items() if number}
    return ", ".join(f"{count(number)} {outcome}" for outcome, number in taken.items()) or "none"


def _head(*headings: str) -> Iterable[str]:
    return _row(*headings), _row(*("---" for _ in headings))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
