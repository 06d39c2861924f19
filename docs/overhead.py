"""Write docs/overhead.md from the figures in docs/overhead/, which `make bench` measures anew.

python docs/overhead.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_suffix(".md")
_FIGURES = Path(__file__).with_suffix("")
_BPFTRACE, _TOOL, _NOT_SELECTED = "bpftrace", "BCC tool", "not selected"
_A_SECOND = 1e9  # instructions of a CPU, by which such a guest's clock goes
_FAULTS = ("read fault", "first touch")
_CHANGES = ("mprotect(PROT_READ)", "mprotect(PROT_READ | PROT_WRITE)")
_KERNELS = ("unpatched", "patched", "bookworm")

_INTRODUCTION = """\
# What tracing adds

`make bench` measures this in guests that count instructions (QEMU's `-icount`), where the figures
are the same each time, and `docs/overhead.py` makes this page of them. Not in them is what a real
machine adds to an instruction: cache misses, and waiting for a line of memory that another CPU
writes.

A fault is taken for each of 4,096 pages of one private anonymous mapping. *everything* is
`pte-trace` without options: outcomes and costs of faults by mapping, and the PTEs that a change
leaves behind. *not selected* is the same with a filter (`--comm`) that the program does not pass.
*bpftrace* is a script of two lines that counts on `do_wp_page` and `handle_mm_fault` by process
and mapping, and tells no outcome, cost or PTE. *empty programs* do nothing, on the functions that
pte-trace is on: calling them is all they cost, and nothing attached there is below it.
"""

_NOTES = """\
## What cannot be had

- *0.15 of bpftrace for a fault that no filter selects.* A write-protect fault passes two functions
  that must be watched: which outcome it had is known in `do_wp_page` only, and faults that do not
  get there end in `handle_mm_fault`. Calling programs that do nothing is more than that already
  (*empty programs*).
- *0.4 for everything.* The same calls and two readings of the clock are more.
- *One program less.* An entry of `do_wp_page` alone would be cheaper to call than its return, but
  then the PTE has to be read later from an address that is only a number to the verifier, and
  bpf_probe_read_kernel() costs what is saved. What became of the PTE cannot be asked at all where
  `handle_mm_fault` returns: of two threads that fault on one page, one finds the other's work.
- *The time without a program at the entry.* Linux tells a program at a function's return nothing
  of when it was entered.

## What was tried, and what it gave

In instructions of a write-protect fault on `unpatched`, to which tracing everything added 1,231
before, and 915 where nothing was selected:

- 251 less: records are in an array instead of a hash with a key of 48 bytes. A thread remembers
  where its last one was; a record tells whose it is, so that a wrong memory costs time only. With
  it came one counter for each outcome, instead of one for all faults and one more for each that is
  decided.
- 135 less: the record is compared with the VMA itself instead of with a key made of it, the program
  that finds out where page tables are is detached when it has, and the bucket of a histogram is
  found by five branches instead of by arithmetic.
- 397 less where nothing is selected: the first program that a fault passes asked, and the others
  were told. A name is compared by its first letter before it is read. Then 62 less: each program
  asks first, which is cheaper than to find what the thread was told. For that, which process is
  followed is a byte in an array instead of an entry of a hash, and nobody finds that full.
- 10 less: whether a kernel thread acts for another process is asked only where the fault does not
  come from user space. Each member that is read through a typed pointer costs some eight
  instructions, for on Linux 6.1 the address is compared first.
- Nothing, or less than nothing: asking for the task instead of its numbers where only the thread's
  number is wanted (4 more in each program, 8 less where the task is wanted anyway).

Of a start, which took 5,180 million before and left 106 MB resident, where the profile (CPU time
of each function of a start, in a guest that counts instructions) pointed:

- 3,170 million less: what was compiled is kept, BCC is loaded to compile only, and
  `bpf/records.h` is parsed when it changes.
- 690 million: the verifier, as it followed the look at 16 page tables through each turn. A function
  of its own is verified once, on all kernels since 5.6; bpf_loop(), tried first, there is since
  5.17 only. A loop of 4,096 turns that call it took longer than before (930 million): each turn is
  compared with those before. 64 turns of 64 calls take 55.
- 140 million in each of two programs: looking for a file's path, which is such a function now too.
- 600 million: 330 to index the kernel's types, the rest to look for the hundred that are asked for.
  Their answers are kept by the kernel's build ID.

Of a snapshot of 10,000 mappings, which took 3,444 million, and of `serve`, which short-lived
processes made grow:

- 720 million less: counts are added to nothing without making them again, and put into the order
  that is shown by position instead of through a dictionary for each of their parts.
- 8 MB less after a reading of 500 processes, and no growth where readings are alike: its threads
  share one heap, and large blocks are not taken from it (mallopt(3)). Before, each thread kept what
  the largest reading in it had taken. With those two alone, memory still went up and down by some
  megabytes where readings were not alike: what is kept from one reading to the next is made while
  the rows of that reading are there.
"""

Figures = dict[str, Any]


class Limit(NamedTuple):
    """What something may take at most, and what it takes."""

    what: str
    most: float
    takes: float


def page() -> str:
    """The whole text, as in FILE."""
    figures = {kernel: _read(kernel) for kernel in _KERNELS}
    parts = (
        [_INTRODUCTION],
        _limits(),
        _write_protect(figures["unpatched"]),
        _faults(figures["unpatched"]),
        _changes(figures),
        _reading(_read("reading")),
        _scrape(_read("scrape")),
        _scale(_read("scale")),
        _start(_read("start")),
        _verified(_read("verifier")),
        [_NOTES],
    )
    return "\n".join(line for part in parts for line in part)


def _read(name: str) -> Figures:
    figures: Figures = json.loads((_FIGURES / f"{name}.json").read_text())
    return figures


def limits() -> Iterator[Limit]:
    """What pte-trace set out to stay within, all of it measured."""
    unpatched, patched = _read("unpatched"), _read("patched")
    kind = "rewrite after a toggle"
    bpftrace = _added(unpatched, _BPFTRACE, kind)
    for way, most in (("everything", 0.65), ("--costs none", 0.45), (_NOT_SELECTED, 0.15)):
        what = f"a write-protect fault, {way}: of what bpftrace adds"
        yield Limit(what, most, _added(unpatched, way, kind) / bpftrace)
    pages = [_per_page(patched, change) for change in _CHANGES]
    looking = sum(added for _, added in pages)
    yield Limit("a PTE that is looked at after a change: instructions", 25, looking)
    kernels_own = sum(own for own, _ in pages)
    yield Limit("the same: of what the kernel spends on it", 0.5, looking / kernels_own)
    tools = _read("start")["tools"]
    ours, served = tools["pte-trace"], tools["pte-trace serve"]
    for figure, most in (("instructions", 0.5), ("resident_bytes", 0.6)):
        what = f"a start, {figure.replace('_', ' ')}: of the BCC tool's"
        yield Limit(what, most, ours[figure] / tools[_TOOL][figure])
    taken = ours["instructions"] / tools[_BPFTRACE]["instructions"]
    yield Limit("a start, instructions: of bpftrace's", 1, taken)
    resident = served["resident_bytes"] / tools[_TOOL]["resident_bytes"]
    yield Limit("`serve`, resident bytes: of the BCC tool's", 0.6, resident)
    reading = _read("reading")
    items, tables, *_ = reading.values()
    yield Limit("reading 10,000 records: of BCC's `items()`", 0.25, tables / items)
    asleep = reading["a snapshot of nothing new"] / _A_SECOND
    yield Limit("10,000 mappings that sleep, read once a second: of a CPU", 0.02, asleep)
    scraped, static = _read("scrape")["ways"].values()
    yield Limit("a scrape: of prometheus-client's own counters", 2, scraped / static)
    for what, key in (("mappings", "mappings"), ("CPUs", "cpus")):
        first, *others = _read("scale")[key]["added"].values()
        yield Limit(f"a fault with many {what}: of one with few", 1.1, max(others) / first)


def _limits() -> Iterator[str]:
    yield "## What it may take"
    yield ""
    yield "The one that is above is explained under *What cannot be had*."
    yield ""
    yield from _head("", "at most", "takes")
    for what, most, takes in limits():
        yield _row(what, f"{most:g}", f"{takes:.3g}" if takes <= most else f"**{takes:.3g}**")
    yield ""


def _added(figures: Figures, way: str, kind: str) -> float:
    ways = figures["ways"]
    return float(ways[way][kind] - ways["untraced"][kind])


def _write_protect(figures: Figures) -> Iterator[str]:
    kind = "rewrite after a toggle"
    untraced = figures["ways"]["untraced"][kind]
    yield "## A write-protect fault"
    yield ""
    yield f"Linux {figures['release']}, where it takes {untraced:,.0f} instructions untraced."
    yield ""
    yield from _head("", "instructions added", "of what bpftrace adds")
    bpftrace = _added(figures, _BPFTRACE, kind)
    for way in figures["ways"]:
        if way != "untraced":
            added = _added(figures, way, kind)
            yield _row(way, f"{added:,.0f}", f"{added / bpftrace:.2f}")
    yield ""


def _faults(figures: Figures) -> Iterator[str]:
    yield "## A read fault and a first touch"
    yield ""
    yield f"Instructions on Linux {figures['release']}. The kernel zeroes a page that is first"
    yield "touched one word an instruction."
    yield ""
    yield from _head("", *(f"{kind}: added" for kind in _FAULTS))
    untraced = figures["ways"]["untraced"]
    yield _row("untraced, in all", *(f"{untraced[kind]:,.0f}" for kind in _FAULTS))
    for way in figures["ways"]:
        if way != "untraced":
            yield _row(way, *(f"{_added(figures, way, kind):,.0f}" for kind in _FAULTS))
    yield ""


def _changes(kernels: dict[str, Figures]) -> Iterator[str]:
    yield "## A change of protection"
    yield ""
    yield "Instructions that one `mprotect()` takes by itself, and what tracing everything adds: to"
    yield "a call for one page, and for each page more of a call for 4,096. Only a change that asks"
    yield "for writable PTEs, on a kernel with the optimization, has its PTEs looked at."
    yield ""
    yield from _head(
        "", "kernel", "one page", "added", "of it by the call", "each page more", "added"
    )
    for kernel, figures in kernels.items():
        for kind in _CHANGES:
            one, added_to_one = _per_call(figures, "everything", f"{kind} of one page")
            more, added_to_more = _per_page(figures, kind)
            empty = _added(figures, "empty programs", f"{kind} of one page")
            cells = (one, added_to_one, empty)
            pages = (f"{more:,.1f}", f"{added_to_more:,.2f}")
            yield _row(f"`{kind}`", f"`{kernel}`", *(f"{each:,.0f}" for each in cells), *pages)
    yield ""
    yield "*of it by the call*: what an empty program in that place adds."
    yield ""


def _per_call(figures: Figures, way: str, kind: str) -> tuple[float, float]:
    return figures["ways"]["untraced"][kind], _added(figures, way, kind)


def _per_page(figures: Figures, kind: str, pages: int = 4096) -> tuple[float, float]:
    """What each page but the first takes, and what tracing adds to it."""

    def more(way: str) -> float:
        took = figures["ways"][way]
        return float(took[kind] * pages - took[f"{kind} of one page"]) / (pages - 1)

    return more("untraced"), more("everything") - more("untraced")


def _reading(reading: dict[str, int]) -> Iterator[str]:
    yield "## A reading"
    yield ""
    yield "Of 10,000 mappings, in a guest of Debian 12's kernel; the first row is BCC's own way to"
    yield "read a table of as many."
    yield ""
    yield from _head("", "million instructions", "of the first row")
    whole = next(iter(reading.values()))
    for name, took in reading.items():
        yield _row(name, f"{took / 1e6:,.1f}", f"{took / whole:.3f}")
    yield ""


def _scrape(found: Figures) -> Iterator[str]:
    *_, theirs = found["ways"].values()
    yield "## A scrape"
    yield ""
    yield f"Of {found['series']:,} series, in a guest of Debian 12's kernel, beside as many of"
    yield "prometheus-client's own counters."
    yield ""
    yield from _head("", "million instructions", "of the last row")
    for name, took in found["ways"].items():
        yield _row(name, f"{took / 1e6:,.1f}", f"{took / theirs:.2f}")
    yield ""


def _scale(scale: Figures) -> Iterator[str]:
    yield "## Many mappings, many CPUs"
    yield ""
    yield f"Write-protect faults on Linux {scale['release']}, each in another mapping than the one"
    yield "before, so that what a thread remembers of its last one never helps."
    yield ""
    yield from _by("mappings", scale["mappings"])
    yield "By CPUs, as many threads of one process fault at once, in a guest of eight CPUs."
    yield "`-icount` runs no more than one, so a plugin of QEMU's counts what a CPU executes from"
    yield "just before a write to just after it, in whole blocks of instructions. This is the"
    yield "median of 10,000: ticks of the timer are among them, and the slower the emulation, the"
    yield "more. What CPUs wait for each other's lines of memory is not in it."
    yield ""
    yield from _by("CPUs", scale["cpus"])


def _by(what: str, found: Figures) -> Iterator[str]:
    yield from _head(what, "untraced", "added", "of the first")
    first, *_ = found["added"].values()
    for many, added in found["added"].items():
        cells = f"{found['untraced'][many]:,.0f}", f"{added:,.0f}", f"{added / first:.2f}"
        yield _row(f"{int(many):,}", *cells)
    yield ""
    yield from _plot(f"instructions added to a fault, by {what}", found["added"])


def _plot(title: str, points: dict[str, float]) -> Iterator[str]:
    """As Mermaid draws it (https://mermaid.js.org/syntax/xyChart.html)."""
    top = max(points.values()) * 1.2
    yield "```mermaid"
    yield "xychart-beta"
    yield f'    title "{title}"'
    yield f"    x-axis [{', '.join(points)}]"
    yield f"    y-axis 0 --> {top:.0f}"
    yield f"    line [{', '.join(f'{each:.0f}' for each in points.values())}]"
    yield "```"
    yield ""


def _start(start: Figures) -> Iterator[str]:
    tools = start["tools"]
    whole = tools[_TOOL]
    yield "## A start"
    yield ""
    yield f"From exec to attached, the second time, on Linux {start['release']}, and what is"
    yield "resident then. *BCC tool* is one as they are usually written, compiled against the"
    yield "kernel's headers; all three are on the same three functions. The first time pte-trace"
    yield "compiles its programs, in a process that ends before they are loaded; later it finds"
    yield "them in the user's cache. `serve` is looked at after its first scrape."
    yield ""
    columns = ("million instructions", "of the BCC tool's", "resident, MB", "of the BCC tool's")
    yield from _head("", *columns)
    for name, took in tools.items():
        cells = []
        for figure in ("instructions", "resident_bytes"):
            cells += [f"{took[figure] / 1e6:,.0f}", f"{took[figure] / whole[figure]:.2f}"]
        yield _row(name, *cells)
    yield ""


def _verified(found: dict[str, dict[str, int]]) -> Iterator[str]:
    yield "## The verifier"
    yield ""
    yield "Instructions it looks at as it loads each program, where everything is asked for."
    yield "Every kernel here allows a million. Before Linux 5.16 none tells: *accepted* is all."
    yield ""
    yield from _head("", *(f"`{kernel}`" for kernel in found))
    for program in dict.fromkeys(each for programs in found.values() for each in programs):
        counts = (programs.get(program) for programs in found.values())
        yield _row(
            program,
            *("" if each is None else f"{each:,}" if each else "accepted" for each in counts),
        )
    yield ""


def _head(*headings: str) -> Iterator[str]:
    yield _row(*headings)
    yield _row(*("---" for _ in headings))


def _row(*cells: str) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


if __name__ == "__main__":
    FILE.write_text(page(), "utf-8")
