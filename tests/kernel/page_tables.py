"""The page tables themselves, read with drgn: what the processor may write to."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from drgn import Program
from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

from pte_trace.kernel.btf import BTF, VMLINUX

_PAGE = 4096
_ENTRIES = struct.Struct("<512Q")
_PRESENT, _WRITABLE, _HUGE = 1 << 0, 1 << 1, 1 << 7
_TABLE = 0x000FFFFFFFFFF000


class PageTables:
    """Those of the running kernel, from /proc/kcore.

    Debian's kernels come without debugging information: /proc/kallsyms and BTF say where
    the structs and their members are.
    """

    def __init__(self) -> None:
        self._kernel = Program()
        self._kernel.set_kernel()
        self._kernel.register_symbol_finder(
            "kallsyms", load_vmlinux_kallsyms(self._kernel), enable_index=0
        )
        btf = BTF(VMLINUX.read_bytes())
        paths = ("task_struct.tasks", "task_struct.pid", "task_struct.mm", "mm_struct.pgd")
        found = {path: btf.member(*path.split(".")) for path in paths}
        self._offsets = {path: member.offset for path, member in found.items() if member}
        core = self._kernel["VMCOREINFO"].string_().decode()
        five_levels = re.search(r"^NUMBER\(pgtable_l5_enabled\)=1$", core, re.MULTILINE)
        self._shifts = range(48 if five_levels else 39, 11, -9)

    def writable(self, pid: int, start: int, pages: int) -> int:
        """How many of the *pages* from address *start* on process *pid* can write to now."""
        tables: dict[int, tuple[int, ...]] = {}
        top = self._top(pid)
        addresses = range(start, start + pages * _PAGE, _PAGE)
        return sum(self._may_write(tables, top, address) for address in addresses)

    def _may_write(self, tables: dict[int, tuple[int, ...]], table: int, address: int) -> bool:
        """Walk from the *table* of the highest level; keep in *tables* those that were read."""
        for shift in self._shifts:
            if table not in tables:
                physical = shift != self._shifts[0]
                tables[table] = _ENTRIES.unpack(self._kernel.read(table, _PAGE, physical))
            entry = tables[table][address >> shift & 511]
            if not (entry & _PRESENT and entry & _WRITABLE):
                return False
            if entry & _HUGE:
                break
            table = entry & _TABLE
        return True

    def _top(self, pid: int) -> int:
        """The address of a process's page table of the highest level."""
        for task in self._tasks():
            if self._kernel.read_u32(task + self._offsets["task_struct.pid"]) == pid:
                memory = self._kernel.read_u64(task + self._offsets["task_struct.mm"])
                top: int = self._kernel.read_u64(memory + self._offsets["mm_struct.pgd"])
                return top
        raise ProcessLookupError(pid)

    def _tasks(self) -> Iterator[int]:
        """The addresses of all processes."""
        offset = self._offsets["task_struct.tasks"]
        first = self._kernel.symbol("init_task").address + offset
        link = self._kernel.read_u64(first)
        while link != first:
            yield link - offset
            link = self._kernel.read_u64(link)
