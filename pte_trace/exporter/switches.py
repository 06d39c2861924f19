"""The kernel's switches under which a hook stays attached, but is not run."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from pte_trace.host.plan import Attachment, How


class Switch(NamedTuple):
    """A file that is 0 where the kernel runs nothing that is attached in these ways."""

    path: Path
    ways: frozenset[How]


SWITCHES = (
    # Kprobes too are ftrace's where they are at a function's entry. Some kernels do not let it be
    # switched off as long as a trampoline is attached.
    Switch(Path("/proc/sys/kernel/ftrace_enabled"), frozenset(How)),
    Switch(Path("/sys/kernel/debug/kprobes/enabled"), frozenset({How.KPROBE})),
)


class Switches:
    """Those of *switches* that may be read now, until they are closed.

    Open them before rights are given up: the second one is root's to open, but not to read.
    """

    def __init__(self, switches: Iterable[Switch] = SWITCHES) -> None:
        self._opened = ExitStack()
        self._files: list[tuple[Switch, int]] = []
        for switch in switches:
            with suppress(OSError):
                file = self._opened.enter_context(switch.path.open("rb", buffering=0))
                self._files.append((switch, file.fileno()))

    def silent(self, hooks: Mapping[str, Attachment]) -> Mapping[str, Path]:
        """The hooks that are not run now, each with the switch that is to blame."""
        off = [switch for switch, fd in self._files if _is_off(fd)]
        return {
            name: switch.path
            for switch in reversed(off)
            for name, attachment in hooks.items()
            if attachment.how in switch.ways
        }

    def close(self) -> None:
        self._files.clear()
        self._opened.close()


def not_run(silent: Mapping[str, Path]) -> str:
    """The sentence for hooks that are *silent*."""
    switches = " and ".join(sorted({f"{path} is 0" for path in silent.values()}))
    return f"The kernel does not run the hooks {', '.join(silent)}: {switches}."


def _is_off(fd: int) -> bool:
    """A kernel that found fault with its own ftrace has switched it off for good (ENODEV)."""
    try:
        return os.pread(fd, 16, 0).strip() == b"0"
    except OSError as error:
        return error.errno == errno.ENODEV
