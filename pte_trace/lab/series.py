"""What the lab builds from Debian's kernel sources, and in what they differ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pte_trace.errors import HostError, UsageError

_FILE = "mm/mprotect.c"


@dataclass(frozen=True)
class Edit:
    """A change of `_FILE`: of the one place where `pattern` matches."""

    what: str
    pattern: str
    replacement: str

    def apply(self, text: str) -> str:
        """The changed text. HostError where there is no such place, or several."""
        changed, places = re.subn(self.pattern, self.replacement, text, flags=re.MULTILINE)
        if places != 1:
            raise HostError(
                f"{_FILE} of this source has {places or 'no'} places to {self.what}, where one "
                "is needed.",
                "Build from an archive with another version: pte-trace lab build --mirror URL.",
            )
        return changed


@dataclass(frozen=True)
class Series:
    """A source package of `suite`, and the kernels that are built from it.

    `edits`: each kernel, in the order of building, and what is changed before it is built.
    `left_out`: the options of our configuration that a kernel has not. Where there are none the
    kernels are a pair, and must have in common what is compared. `steps` is how many commands
    make ran when they were built once. It serves the estimate of the time left, and nothing else.
    """

    name: str
    suite: str
    edits: Mapping[str, Edit | None]
    steps: int
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def package(self) -> str:
        """Debian's source package."""
        return f"linux-source-{self.name}"

    @property
    def is_pair(self) -> bool:
        """Whether the kernels differ in nothing but their edits."""
        return not self.left_out


# GCC inlines it into its only caller; it is the function that the tool is about.
AS_A_SYMBOL = Edit(
    "keep change_pte_range from being inlined",
    r"^static ((?:unsigned )?long) change_pte_range\(",
    r"static noinline \1 change_pte_range(",
)
# Both edits change mprotect_fixup() alone. What it asks for shared mappings is older than the
# optimization and stays; were it always nothing, GCC would inline another change_protection().
SERIES = {
    "6.1": Series(
        "6.1",
        "bookworm",
        {
            "patched": AS_A_SYMBOL,
            "unpatched": Edit(
                "ask for writable PTEs in shared mappings only",
                r"^(\t\ttry_change_writable = )!!\(vma->vm_flags & VM_WRITE\);$",
                r"\1false;",
            ),
        },
        2000,
    ),
    "6.12": Series(
        "6.12",
        "trixie",
        {
            "patched-6.12": AS_A_SYMBOL,
            "unpatched-6.12": Edit(
                "ask for writable PTEs in shared mappings only",
                r"^\tif \((vma_wants_manual_pte_write_upgrade\(vma\))\)\n"
                r"(?=\t\tmm_cp_flags \|= MM_CP_TRY_CHANGE_WRITABLE;\n)",
                r"\tif ((vma->vm_flags & VM_SHARED) && \1)\n",
            ),
        },
        2200,
    ),
}


def series(name: str) -> Series:
    """The series of this name. UsageError for an unknown one."""
    if name not in SERIES:
        raise UsageError(
            f"The lab builds no kernels of the series `{name}`.",
            f"The series are {', '.join(SERIES)}.",
        )
    return SERIES[name]


def series_of(kernel: str) -> Series:
    """The series that the kernel is built from."""
    return next(each for each in SERIES.values() if kernel in each.edits)


def edit(tree: Path, change: Edit) -> None:
    """Change the source in `tree`. HostError where it lacks what is to be changed."""
    path = tree / _FILE
    path.write_text(change.apply(path.read_text()))
