"""Write docs/overhead.md from the figures in docs/overhead/, which `make bench` measures anew.

python docs/overhead.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_suffix(".md")
_FIGURES = Path(__file__).with_suffix("")
_BPFTRACE, _TOOL, _NOT_SELECTED = "bpftrace", "BCC tool", "not selected"
_INTERVAL_S = 5  # between two readings of `serve`
_A_SECOND = 1e9  # instructions of a CPU, by which such a guest's clock goes
_FAULTS = ("read fault", "first touch")
_CHANGES = ("mprotect(PROT_READ)", "mprotect(PROT_READ | PROT_WRITE)")
_KERNELS = tuple(
    kernel
    for kernel in ("bullseye", "bookworm", "unpatched", "patched", "trixie", "sid")
    if (_FIGURES / f"{kernel}.json").exists()
)
_OF_HUGE_PAGES = (
    "write-protect fault of a huge page",
    *(f"{change} of huge pages" for change in _CHANGES),
)
_EVERYTHING, _NO_COSTS, _MACHINE = "everything", "--costs none", "whole machine"
_WAYS = (_EVERYTHING, _NO_COSTS, _NOT_SELECTED, _MACHINE, "empty programs")
_WRITE_PROTECT = "write-protect fault"
# What a write-protect fault may take of what bpftrace adds in the same guest, by these ways.
_AT_MOST = {
    "bookworm": (0.65, 0.45, 0.40),
    "unpatched": (0.65, 0.45, 0.40),
    "trixie": (0.62, 0.42, 0.37),
    "sid": (1.1, 0.9, 0.6),
}
# What anything that tracing adds on sid may take of what it adds on bookworm.
_ON_SID = 1.3
# Of the kernel's memory, by default: `serve` and `run`.
_TABLES_MB = 32
_TABLES_OF = {"serve": _MACHINE, "run": _EVERYTHING}
_MEMORY_ON = (2, 64)

_INTRODUCTION = """\
# What tracing adds

`make bench` measures this in guests that count instructions (QEMU's `-icount`), where the figures
are the same each time, and `docs/overhead.py` makes this page of them. Not in them is what a real
machine adds to an instruction: cache misses, and waiting for a line of memory that another CPU
writes.

A fault is taken for each of 1,024 pages of one private anonymous mapping. A *write-protect fault*
is one of a page that a child had too, which is gone: every kernel makes it writable again.
*everything* is `pte-trace run` without options: outcomes and costs of faults by mapping, and the
PTEs that a change leaves behind. *not selected* is `pte-trace run -c NAME` for a program of another
name. *whole machine* is `pte-trace serve`, and `pte-trace` live: the programs are the same.
*bpftrace* is a script of two lines that counts on `do_wp_page` and `handle_mm_fault` by process
and mapping, and tells no outcome, cost or PTE; a script skips runs where the kernel may be
preempted (`sid`), pte-trace does not. *empty programs* do nothing, in the place of those of
*everything*: calling them is all they cost, and nothing attached there is below it.
"""

_NOTES = """\
## What cannot be had

- *Trampolines on `sid`.* A kernel that may be preempted skips a trampoline's program
  while another task's run of it waits for that CPU, so nothing that is counted may depend on one
  there, but where the lock of a page table is held: at the entry of `do_wp_page`. One program at
  both ends of `handle_mm_fault` (`kprobe.session`) takes 824 instructions by itself, 440 where it
  says at the entry that it is not wanted at the return, and a kprobe with a kretprobe 827.
  Trampolines there take 267 on the same kernel. So a read fault, and `mprotect()` of one page (812
  for a session instead of 170), stay above 1.3 times what `bookworm` takes, where they are exact;
  so does a first touch.
- *A cheaper return of `handle_mm_fault` there.* A kretprobe alone takes 619, `kprobe.multi` at the
  return 705; neither sees the arguments, and what tells them at the entry takes more than is saved.
- *One probe less in a change.* `change_pte_range` can be hooked there, for 820 instructions in each
  page table; to look for the tables from the top takes less, so its caller stands in for it.
- *The PTE at no cost on 6.1.* Its address is a number where `handle_mm_fault` returns.
  bpf_probe_read_kernel() takes 64 instructions; bpf_rdonly_cast(), since 6.2, some 8.
  That is a part of what `bookworm` is above its limits by.
- *The clock for less.* On `bookworm` a reading takes 100 instructions, and there are two of them.
- *`--costs none` below 0.9 on `sid`.* It is 0.97; 926 of its 1,425 instructions are those of
  programs that do nothing.
- *`--costs none` below 0.42 on `trixie`.* It was, at 0.41, before huge pages and who writes were
  counted, which take some 50 instructions of a fault of a small page, and before the next point.
- *What had write-protected the page for less.* In this fault, of a page that a fork had, it takes
  some 60 instructions on `trixie` (it was 190, with the page's folio and mapping, which only a
  mapping of a file or one that KSM merges needs), 95 on `sid`, and 170 on `bookworm`, where reading
  a word of the page is a call of a helper. By as much everything is above its limit on `trixie`.
  Of each word that is read from the kernel there, eight instructions of nine check its address.
- *`run` in 32 MB of the kernel's memory.* It has a byte for each PID there can be, 4.2 MB: whether
  a process is followed is asked at each fault, and that is had at once. Two bits each would do, but
  where two processes that share a byte are begun at once, what is noted of one of them is lost.
- *The time without a program at the entry.* Linux tells a program at a function's return nothing
  of when it was entered.

What instructions do not tell: cache misses; what an atomic operation, a serializing read of the
clock, or a mispredicted branch takes; how long a probe's program keeps others from its CPU, which
is longest for a change of many page tables.

## What was tried, and what it gave

In instructions of a write-protect fault on `sid`, to which tracing everything added 5,084, without
costs 5,010, and 2,408 where nothing was selected:

- 3,400 less: `do_wp_page` by a trampoline at its entry instead of by two kprobes; a session instead
  of two kprobes on `handle_mm_fault`, whose eight bytes hold the VMA and two flags, so that no call
  is saved in a hash; typed pointers in its program (bpf_rdonly_cast()) instead of a helper's call
  for each member.
- 130 less: each program asks for the task once, and reads the PTE through a typed pointer.
- 40 less: `do_wp_page`'s program asks no filter. Where the fault is asked for its slot is taken.
- Tables of one value are addressed, instead of looked up: nine instructions for each look-up.
- Nothing: a kprobe with a kretprobe instead of a session takes as much, and loses calls where more
  than ten sleep. `kprobe.multi` at the entry and the return takes 1,159.
- On `bookworm`, nothing by itself: the entry of `do_wp_page` is 55 instructions cheaper than its
  return, which the later look at the PTE takes again where a fault is selected.

In instructions of a write-protect fault on `unpatched`, before that, to which tracing everything
added 1,231, and 915 where nothing was selected:

- 251 less: records are in an array instead of a hash with a key of 48 bytes. A thread remembers
  where its last one was; a record tells whose it is, so that a wrong memory costs time only. With
  it came one counter for each outcome, instead of one for all faults and one more for each that is
  decided.
- 135 less: the record is compared with the VMA itself instead of with a key made of it, the program
  that finds out where page tables are is detached when it has, and the bucket of a histogram is
  found by five branches instead of by arithmetic.
- 397 less where nothing is selected: the first program that a fault passes asked, and the others
  were told. A name is compared by its first letter before it is read. For that, which process is
  followed is a byte in an array instead of an entry of a hash, and nobody finds that full.
- 10 less: whether a kernel thread acts for another process is asked only where the fault does not
  come from user space. Each member that is read through a typed pointer costs some eight
  instructions, for on Linux 6.1 the address is compared first.

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
        _write_protect(figures),
        _faults(figures),
        _changes(figures),
        _huge(figures, _read("without_huge_pages")),
        _memory(figures["sid"]),
        _reading(_read("reading")),
        _many(_read("readings")),
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
    for kernel in _KERNELS:
        if kernel not in _AT_MOST:
            continue
        figures, shares = _read(kernel), _AT_MOST[kernel]
        bpftrace = _added(figures, _BPFTRACE, _WRITE_PROTECT)
        for way, share in zip((_EVERYTHING, _NO_COSTS, _NOT_SELECTED), shares, strict=True):
            what = f"a write-protect fault on `{kernel}`, {way}: of what bpftrace adds"
            yield Limit(what, share, _added(figures, way, _WRITE_PROTECT) / bpftrace)
    sid, bookworm = _read("sid"), _read("bookworm")
    for kind in (*_FAULTS, *(f"{change} of one page" for change in _CHANGES)):
        added = _added(sid, _EVERYTHING, kind) / _added(bookworm, _EVERYTHING, kind)
        yield Limit(f"{_called(kind)}, everything, on `sid`: of that on `bookworm`", _ON_SID, added)
    for kernel in _KERNELS:
        for command, way in _TABLES_OF.items():
            taken = _megabytes(_read(kernel)["memory"][way], max(_MEMORY_ON))
            what = f"all tables of `{command}` on `{kernel}`, {max(_MEMORY_ON)} CPUs: MB"
            yield Limit(what, _TABLES_MB, taken)
    pages = [_per_page(bookworm, change) for change in _CHANGES]
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
    yield Limit("reading 12,000 records: of BCC's `items()`", 0.25, tables / items)
    asleep = reading["a snapshot of nothing new"] / _A_SECOND
    yield Limit("12,000 mappings that sleep, read once a second: of a CPU", 0.02, asleep)
    each = reading["a reading of `serve`, each mapping"]
    yield Limit("12,000 busy mappings, a reading of `serve`: instructions each", 30_000, each)
    yield from _limits_of_many(_read("readings"))
    scraped, static = _read("scrape")["ways"].values()
    yield Limit("a scrape: of prometheus-client's own counters", 2, scraped / static)
    for what, key in (("mappings", "mappings"), ("CPUs", "cpus")):
        first, *others = _read("scale")[key]["added"].values()
        yield Limit(f"a fault with many {what}: of one with few", 1.1, max(others) / first)


def _limits_of_many(found: Figures) -> Iterator[Limit]:
    serve = found["serve"]
    hundred = serve["100000"]
    share = hundred["cpu_s"] / _INTERVAL_S
    yield Limit("`serve`, 100,000 mappings every five seconds: of a CPU", 0.07, share)
    own = hundred["own_mib"]
    yield Limit("`serve`, 100,000 mappings: MiB beside the kernel's tables", 96, own)
    longest = serve["200000"]["longest_scrape_s"]
    yield Limit("three who scrape 200,000 mappings: the longest scrape, seconds", 3, longest)
    top = found["top"]["60000"]["cpu_s"]
    yield Limit("`top`, 60,000 mappings every second, 40 rows shown: of a CPU", 0.2, top)
    recorded = found["record"]["20000"]["cpu_s"]
    yield Limit("`record`, 20,000 mappings every second: of a CPU", 0.25, recorded)
    report = found["report"]["30000"]
    yield Limit("the report of `run`, 30,000 mappings: seconds of CPU", 1, report["cpu_s"])
    yield Limit("the same: MiB", 20, report["grown_mib"])


def _limits() -> Iterator[str]:
    yield "## What it may take"
    yield ""
    yield "Those that are above are explained under *What cannot be had*."
    yield ""
    yield from _head("", "at most", "takes")
    for what, most, takes in limits():
        yield _row(what, f"{most:g}", f"{takes:.3g}" if takes <= most else f"**{takes:.3g}**")
    yield ""


def _added(figures: Figures, way: str, kind: str) -> float:
    ways = figures["ways"]
    return float(ways[way][kind] - ways["untraced"][kind])


def _called(kind: str) -> str:
    """In a sentence: a fault, or a call."""
    call, of, pages = kind.partition(" of ")
    return f"`{call}`{of}{pages}" if "(" in call else f"a {kind}"


def _write_protect(kernels: dict[str, Figures]) -> Iterator[str]:
    yield "## A write-protect fault"
    yield ""
    yield "Instructions added, and in brackets of what bpftrace adds."
    yield ""
    yield from _by_kernel(kernels, _WRITE_PROTECT)


def _faults(kernels: dict[str, Figures]) -> Iterator[str]:
    yield "## A read fault and a first touch"
    yield ""
    yield "As above. The kernel zeroes a page that is first touched one word an instruction."
    yield ""
    for kind in _FAULTS:
        yield f"### A {kind}"
        yield ""
        yield from _by_kernel(kernels, kind)


def _by_kernel(kernels: dict[str, Figures], kind: str) -> Iterator[str]:
    yield from _head("", "release", "untraced, in all", "bpftrace", *_WAYS)
    for kernel, figures in kernels.items():
        bpftrace = _added(figures, _BPFTRACE, kind)
        added = (_added(figures, way, kind) for way in _WAYS)
        yield _row(
            f"`{kernel}`",
            figures["release"],
            f"{figures['ways']['untraced'][kind]:,.0f}",
            f"{bpftrace:,.0f}",
            *(f"{each:,.0f} ({each / bpftrace:.2f})" for each in added),
        )
    yield ""


def _megabytes(taken: Mapping[str, int], cpus: int) -> float:
    """Of what a user has at once; what each CPU has comes to it."""
    return (taken["once"] + cpus * taken["for each CPU"]) / 1e6


def _memory(figures: Figures) -> Iterator[str]:
    yield "## Memory of the kernel"
    yield ""
    yield "What all tables take, in MB, whatever is in them, as the kernel of `sid` says of each in"
    yield "a guest of one CPU. For more it is added up: of one table each CPU has its own."
    yield ""
    yield from _head("CPUs", *(f"`{command}`" for command in _TABLES_OF))
    for cpus in _MEMORY_ON:
        taken = (_megabytes(figures["memory"][way], cpus) for way in _TABLES_OF.values())
        yield _row(f"{cpus}", *(f"{megabytes:.1f}" for megabytes in taken))
    yield ""


def _changes(kernels: dict[str, Figures]) -> Iterator[str]:
    yield "## A change of protection"
    yield ""
    yield "Instructions that one `mprotect()` takes by itself, and what tracing everything adds: to"
    yield "a call for one page, and for each page more of a call for 1,024. Only a change that asks"
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


def _huge(kernels: dict[str, Figures], without: Figures) -> Iterator[str]:
    """What huge pages take, and what it takes of small ones that they are counted."""
    yield "## Huge pages"
    yield ""
    yield "Instructions for each of seven huge pages, and what tracing everything adds: to a"
    yield "write-protect fault as above, and to an `mprotect()` of all seven."
    yield ""
    yield from _head("", "kernel", "untraced", "added", "of it by empty programs")
    measured = {
        kernel: figures
        for kernel, figures in kernels.items()
        if _OF_HUGE_PAGES[0] in figures["ways"]["untraced"]
    }
    for kernel, figures in measured.items():
        for kind in _OF_HUGE_PAGES:
            yield _row(
                kind if "(" not in kind else f"`{kind.partition(' of ')[0]}`",
                f"`{kernel}`",
                f"{figures['ways']['untraced'][kind]:,.0f}",
                *(f"{_added(figures, way, kind):,.0f}" for way in (_EVERYTHING, "empty programs")),
            )
    yield ""
    yield "None of the programs that count huge pages runs for a small one. What tracing everything"
    yield "adds to small ones, before huge ones, causes and stacks were counted and now:"
    yield ""
    columns = (f"`{kernel}`: {when}" for kernel in without for when in ("before", "now"))
    yield from _head("", *columns)
    for kind in next(iter(without.values()))["ways"][_EVERYTHING]:
        added = (
            _added(figures, _EVERYTHING, kind)
            for kernel in without
            for figures in (without[kernel], kernels[kernel])
        )
        yield _row(_called(kind), *(f"{each:,.0f}" for each in added))
    yield ""
    if others := [f"`{kernel}`" for kernel in kernels if kernel not in measured]:
        yield f"On {' and '.join(others)} this was not measured: all their figures are from before."
        yield ""


def _per_call(figures: Figures, way: str, kind: str) -> tuple[float, float]:
    return figures["ways"]["untraced"][kind], _added(figures, way, kind)


def _per_page(figures: Figures, kind: str) -> tuple[float, float]:
    """What each page but the first takes, and what tracing adds to it."""
    pages: int = figures["pages"]

    def more(way: str) -> float:
        took = figures["ways"][way]
        return float(took[kind] * pages - took[f"{kind} of one page"]) / (pages - 1)

    return more("untraced"), more("everything") - more("untraced")


def _many(found: Figures) -> Iterator[str]:
    yield "## Many mappings"
    yield ""
    yield "Of a machine with so many mappings that all have events in each interval: 140 VMAs a"
    yield "process, 44 % of files, one to eight that touch in a mapping. Made without a kernel, as"
    yield "the programs fill their tables; CPU time is that of the machine that ran it. *beside* is"
    yield "memory without the tables, which the kernel has and a reader maps."
    yield ""
    yield from _head("", "mappings", "CPU, ms", "µs each", "MiB beside", "longest scrape, s")
    for way, by_number in found.items():
        for number, figures in by_number.items():
            cpu, scrape = figures["cpu_s"], figures.get("longest_scrape_s")
            yield _row(
                f"`{way}`",
                f"{int(number):,}",
                f"{cpu * 1e3:,.0f}",
                f"{cpu * 1e6 / int(number):.2f}",
                f"{figures['own_mib']:,.0f}",
                "" if scrape is None else f"{scrape:.2f}",
            )
    yield ""
    points = {number: figures["cpu_s"] * 1e3 for number, figures in found["serve"].items()}
    yield from _plot("milliseconds of CPU for a reading of serve, by mappings", points)


def _reading(reading: dict[str, int]) -> Iterator[str]:
    yield "## A reading"
    yield ""
    yield "Of 12,000 mappings, in a guest of Debian 12's kernel; the first row is BCC's own way to"
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
