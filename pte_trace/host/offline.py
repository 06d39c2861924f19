"""What a kernel would allow, as far as its files tell: nothing is run, and nothing tried.

Read are its types, from an ELF vmlinux or from a copy of /sys/kernel/btf/vmlinux, and what lies
beside that: symbols (System.map, or a copy of /proc/kallsyms) and its configuration (config).
Each may end in the release, as below /boot. What the files do not tell is None, as in
`pte_trace.host.facts`.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Collection
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from pte_trace.errors import HostError
from pte_trace.host.behavior import Behavior
from pte_trace.host.facts import (
    CAST,
    CAST_TYPES,
    LIFE_FUNCTIONS,
    TRACED_FUNCTIONS,
    FunctionFacts,
    HostFacts,
    knows_current_task,
    sessions_unbounded,
)
from pte_trace.kernel import kernel_types
from pte_trace.kernel.btf import BTF, BTFError

_ELF = b"\x7fELF"
_MOST = 2 << 30
_SYMBOLS = ("System.map", "kallsyms")
_CONFIG = "config"
# Debian's linux-image has one line in the place of them all.
_FEWEST_SYMBOLS = 1000
_BANNER = re.compile(rb"Linux version (\d[^ \0]+) [^\0]*?#\d+([^\0\n]*)")
# Of what a trampoline takes: arguments in registers only up to 473e3150d30a, and no structs up to
# a9ca9f9ceff3.
_REGISTERS, _MANY_ARGUMENTS, _STRUCTS = 6, (6, 6), (6, 1)
# What trampolines, kprobes and sessions of these rest on.
_TRAMPOLINES, _KPROBES, _SESSIONS = (
    "register_ftrace_direct",
    "register_kprobe",
    "bpf_session_is_return",
)
_OPTIMIZED, _CLEAN_AND_HUGE = (6, 0), (6, 2)


@dataclass(frozen=True)
class Files:
    """What was read of a kernel. ``symbols``: None where there are none beside it."""

    types: BTF
    symbols: frozenset[str] | None = None
    config: str | None = None
    release: str | None = None
    version: str | None = None


def read(kernel: Path) -> Files:
    """The files of *kernel*, and what is beside it. Raises HostError."""
    try:
        if kernel.stat().st_size > _MOST:
            raise HostError(f"{kernel} is larger than any kernel.", _WANTED)
        data = kernel.read_bytes()
        suffix = kernel.name.partition("-")[2]
        beside = _beside(kernel.parent, _SYMBOLS, suffix)
        config = _beside(kernel.parent, (_CONFIG,), suffix)
        symbols = _listed(beside.read_text(errors="replace")) if beside else None
        text = config.read_text(errors="replace") if config else None
    except OSError as error:
        raise HostError(f"{error.filename} cannot be read: {error.strerror}.", _WANTED) from None
    release, version = suffix if suffix[:1].isdigit() else None, None
    try:
        types, own = _of_elf(data) if data.startswith(_ELF) else (BTF(data), None)
    except (BTFError, ELFError) as error:
        problem = error.problem if isinstance(error, BTFError) else "it is damaged"
        raise HostError(f"The types in {kernel} cannot be read: {problem}.", _WANTED) from None
    if types is None:
        raise HostError(f"{kernel} has no type information (.BTF).", _WANTED)
    if banner := _BANNER.search(data):
        release, version = (part.decode(errors="replace") for part in banner.groups())
    return Files(types, own or symbols, text, release, version)


_WANTED = (
    "Name a vmlinux with .BTF, or a copy of /sys/kernel/btf/vmlinux; System.map or a copy of"
    " /proc/kallsyms, and config, may be beside it."
)


def _beside(directory: Path, names: Collection[str], suffix: str) -> Path | None:
    found = (directory / f"{name}{end}" for end in (f"-{suffix}", "") for name in names)
    return next((path for path in found if path.is_file()), None)


def _listed(text: str) -> frozenset[str] | None:
    """The names of a list as System.map is: address, kind, name."""
    lines = (line.split() for line in text.splitlines())
    names = frozenset(words[2] for words in lines if len(words) >= 3)
    return names if len(names) >= _FEWEST_SYMBOLS else None


def _of_elf(data: bytes) -> tuple[BTF | None, frozenset[str] | None]:
    """Its types and its own symbols, if it has any. Raises ELFError, BTFError."""
    elf = ELFFile(BytesIO(data))
    section, table = elf.get_section_by_name(".BTF"), elf.get_section_by_name(".symtab")
    names = None
    if isinstance(table, SymbolTableSection):
        names = frozenset(symbol.name for symbol in table.iter_symbols())
    return (BTF(section.data()) if section else None), names


def facts(files: Files) -> HostFacts:
    """What *files* tell of their kernel. Raises BTFError where its types contradict themselves."""
    types, symbols = files.types, files.symbols
    preemptible, unbounded = _preemptible(files), sessions_unbounded(types)
    numbers = _numbers(files.release)

    def is_there(function: str) -> bool:
        """Types are of functions that were not inlined."""
        known = types.function_id(function) is not None
        return known if symbols is None else function in symbols

    kprobes = is_there(_KPROBES)

    def function(name: str) -> FunctionFacts:
        there = is_there(name)
        return FunctionFacts(
            parameters=types.parameters(name),
            fentry=there and is_there(_TRAMPOLINES) and _fits_trampoline(types, name, numbers),
            kprobe=there and kprobes,
            session=there and unbounded is not None and is_there(_SESSIONS),
        )

    return HostFacts(
        release=files.release,
        machine="x86_64" if types.member("pt_regs", "r15") else "of another architecture",
        bpf_errno=errno.ENOSYS if symbols and "__x64_sys_bpf" not in symbols else None,
        btf=True,
        missing_members=kernel_types.missing(types),
        current_task_btf=knows_current_task(types),
        preemptible=preemptible,
        realtime=types.member("spinlock", "rlock") is None,
        sessions_unbounded=unbounded,
        life_probes=preemptible is not False and kprobes and all(map(is_there, LIFE_FUNCTIONS)),
        casts=types.function_id(CAST) is not None
        and all(types.struct_id(name) is not None for name in CAST_TYPES),
        kprobes=kprobes,
        behavior=_behavior(files, numbers),
        bcc_version="not looked for",
        functions={name: function(name) for name in TRACED_FUNCTIONS},
    )


def _fits_trampoline(types: BTF, function: str, release: tuple[int, int] | None) -> bool:
    """What is not known of its *release* it does not have."""
    release = release or (0, 0)
    few = len(types.parameters(function) or ()) <= _REGISTERS or release >= _MANY_ARGUMENTS
    plain = not types.takes_structs(function) or release >= _STRUCTS
    return types.function_id(function) is not None and few and plain


def _numbers(release: str | None) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", release or "")
    return (int(found[1]), int(found[2])) if found else None


def _is_set(files: Files, option: str) -> bool | None:
    if files.config is None:
        return None
    return re.search(rf"^CONFIG_{option}=y$", files.config, re.MULTILINE) is not None


def _preemptible(files: Files) -> bool | None:
    """None where it is chosen at boot, and nothing tells how."""
    if _is_set(files, "PREEMPT_NONE") or _is_set(files, "PREEMPT_VOLUNTARY"):
        return False
    if any(_is_set(files, f"PREEMPT{kind}") for kind in ("", "_LAZY", "_RT")):
        return True
    if files.version is not None and "PREEMPT" not in files.version:
        return False
    if files.symbols is not None and "preempt_schedule" not in files.symbols:
        return False
    dynamic = (files.version and "PREEMPT_DYNAMIC" in files.version) or (
        files.symbols is None or "sched_dynamic_mode" in files.symbols
    )
    return None if dynamic else True


def _behavior(files: Files, numbers: tuple[int, int] | None) -> Behavior:
    """By release: a kernel whose mprotect() was changed since is not told from others."""
    return Behavior(
        optimization=None if numbers is None else numbers >= _OPTIMIZED,
        clean_pages=None if numbers is None else numbers >= _CLEAN_AND_HUGE,
        huge_pages=None if numbers is None else numbers >= _CLEAN_AND_HUGE,
        soft_dirty=_is_set(files, "MEM_SOFT_DIRTY"),
    )
