"""Configure and compile one source tree with the kernel's own make."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pte_trace.errors import HostError
from pte_trace.lab import tools
from pte_trace.lab.supervise import supervise

FRAGMENT = Path(__file__).with_name("kernel.config")

# Of the two kernels of a pair, these must be the same.
_SAME = ("change_pte_range", "change_protection")
_OBJECT = "mm/mprotect.o"
# The same in each build, so that two builds of one source differ in nothing but the source.
_FIXED = {
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER": "pte-trace",
    "KBUILD_BUILD_HOST": "lab",
    "KBUILD_BUILD_VERSION": "1",
    "LC_ALL": "C",
}
# All that make gets of the caller's environment: a make above this one passes its options on.
_PASSED_ON = ("HOME", "TMPDIR")
_STEP = re.compile(rb"^  [A-Z0-9]+ +\S", re.MULTILINE)
_COMPLAINT = re.compile(r"error\b|undefined reference|\*\*\*", re.IGNORECASE)
_SHOWN = 12

Step = Callable[[int], object]


@dataclass(frozen=True)
class Made:
    """How make ended, and what it wrote to standard error."""

    status: int
    errors: str


Make = Callable[[Sequence[str], Path, Step], Made]


def make(arguments: Sequence[str], tree: Path, step: Step) -> Made:
    """Run make in `tree` to its end; `step` gets the number of commands just begun."""
    errors = bytearray()

    def count(data: bytes) -> None:
        step(len(_STEP.findall(data)))

    argv = [tools.locate("make"), "-C", str(tree), *arguments]
    status = supervise(argv, environment(os.environ), math.inf, count, errors.extend, lambda: None)
    return Made(status, errors.decode(errors="replace"))


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What make's environment is, given this process's."""
    kept = {name: environ[name] for name in _PASSED_ON if name in environ}
    return {**kept, **_FIXED, "PATH": tools.search_path()}


@dataclass(frozen=True)
class Tree:
    """A kernel source tree, and how it is made."""

    path: Path
    runner: tools.Runner
    make: Make
    jobs: int

    def configure(self, left_out: Sequence[str] = ()) -> None:
        """Write .config. HostError where the source cannot have all that is asked for."""
        asked = self.path / "asked.config"
        asked.write_text(fragment(left_out))
        self._make("its configuration", [f"KCONFIG_ALLCONFIG={asked}", "allnoconfig"])
        missing = unmet(asked.read_text(), (self.path / ".config").read_text().splitlines())
        if missing:
            raise HostError(
                f"This kernel source cannot be configured with {', '.join(missing)}.",
                "Build from an archive with another version: pte-trace lab build --mirror URL.",
            )

    def compile(self, name: str, suffix: str, step: Step) -> str:
        """Compile the kernel `name`; its release, which ends with `suffix`.

        HostError with the compiler's errors where that fails.
        """
        self._make(name, [f"-j{self.jobs}", f"LOCALVERSION={suffix}", "bzImage"], step)
        return (self.path / "include/config/kernel.release").read_text().strip()

    def code(self) -> str:
        """The instructions and relocations of the functions that a pair has in common."""
        shown = [
            tools.check(
                self.runner,
                ["objdump", "-dr", "--no-addresses", f"--disassemble={name}", _OBJECT],
                self.path,
            )
            for name in _SAME
        ]
        missing = [name for name, text in zip(_SAME, shown, strict=True) if name not in text]
        if missing:
            raise HostError(
                f"{', '.join(missing)} is no symbol of this kernel.",
                "Build with another compiler, or from another archive with --mirror URL.",
            )
        return "".join(shown)

    def _make(self, what: str, arguments: Sequence[str], step: Step = lambda count: None) -> None:
        made = self.make(arguments, self.path, step)
        if made.status == 0:
            return
        if "No space left on device" in made.errors:
            raise tools.disk_full(self.path)
        raise HostError(
            f"The build of {what} failed:\n{complaint(made.errors)}",
            "Mend what the compiler says and build it again.",
        )


def fragment(left_out: Iterable[str] = ()) -> str:
    """Our configuration without some of its options."""
    text = FRAGMENT.read_text()
    for option in left_out:
        text, places = re.subn(
            rf"^CONFIG_{option}=y$", f"# CONFIG_{option} is not set", text, flags=re.MULTILINE
        )
        assert places == 1, option
    return text


def unmet(asked: str, config: Iterable[str]) -> list[str]:
    """The lines of a configuration fragment that a whole configuration does not fulfil."""
    found = {line.strip() for line in config}
    set_options = {line.partition("=")[0] for line in found}
    missing = []
    for line in map(str.strip, asked.splitlines()):
        left_out = re.fullmatch(r"# (CONFIG_\w+) is not set", line)
        if left_out:
            fulfilled = left_out[1] not in set_options
        else:
            fulfilled = not line.startswith("CONFIG_") or line in found
        if not fulfilled:
            missing.append(line)
    return missing


def complaint(errors: str) -> str:
    """The first errors of what make and the compiler wrote, without what comes before them."""
    lines = errors.splitlines()
    first = next((at for at, line in enumerate(lines) if _COMPLAINT.search(line)), -_SHOWN)
    return "\n".join(lines[first:][:_SHOWN])
