"""Boot a kernel and run one command in it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pte_trace.errors import HostError
from pte_trace.lab import cache, script, tools, virtme
from pte_trace.lab.guest import Guest
from pte_trace.lab.kernels import Kernel
from pte_trace.lab.supervise import Sink, supervise
from pte_trace.programs import desk, image
from pte_trace.programs.image import bcc_version

Launch = Callable[
    [Sequence[str], Mapping[str, str], float, Sink, Sink, Callable[[], None]],
    None,
]


class BootError(HostError):
    """The guest died before its command began: nothing of it has been done."""


@dataclass(frozen=True)
class Boot:
    """What is booted, and how."""

    kernel: Kernel
    guest: Guest
    kvm: bool

    def __str__(self) -> str:
        how = "with KVM" if self.kvm else "under emulation"
        return f"{self.kernel.name} {self.kernel.release} {how}"


def _virtme_run(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    timeout: float,
    stdout: Sink,
    stderr: Sink,
    tick: Callable[[], None],
) -> None:
    launcher = tools.locate("virtme-run")
    supervise([launcher, *arguments], environ, timeout, stdout, stderr, tick)


def run(
    boot: Boot,
    argv: Sequence[str],
    stdout: Sink,
    stderr: Sink,
    started: Callable[[], None] = lambda: None,
    launch: Launch = _virtme_run,
) -> int:
    """The exit status of argv in the guest; `started` is called when it gets there.

    HostError where a tool is missing, the guest does not end in time or dies; BootError
    where that was before argv.
    """
    with tempfile.TemporaryDirectory(prefix="pte-trace-lab-") as name:
        shared, cwd = Path(name), Path.cwd()
        script.write(shared, argv, cwd, boot.kernel.name)
        arguments = virtme.arguments(boot.kernel, boot.guest, shared, cwd, boot.kvm)
        # What a killed launcher leaves in TMPDIR goes with the shared directory.
        environ = {**os.environ, "TMPDIR": name, "PATH": tools.search_path()}

        def tick() -> None:
            if script.started(shared):
                started()

        try:
            with desk.attended(shared / script.DESK, _compiled):
                launch(arguments, environ, boot.guest.timeout, stdout, stderr, tick)
        except subprocess.TimeoutExpired:
            raise _hung(boot, shared) from None
        status = script.status(shared)
        if status is None:
            raise _died(boot, shared)
        return status


def _compiled(key: str, text: bytes) -> bytes | None:
    version, _ = bcc_version()
    return image.for_guest(key, text, version, cache.directory() / "programs")


def _hung(boot: Boot, shared: Path) -> HostError:
    doing = "its command was running" if script.started(shared) else "it was still booting"
    return HostError(
        f"The guest {boot.kernel.name} was stopped after {boot.guest.timeout:g} s; {doing}.",
        "Give it longer with --timeout, or see what it does with --verbose.",
    )


def _died(boot: Boot, shared: Path) -> HostError:
    end = script.console_end(shared)
    console = f" The end of its console:\n{end}" if end else ""
    kind, when = (
        (HostError, "before its command had ended")
        if script.started(shared)
        else (BootError, "while it booted")
    )
    return kind(
        f"The guest {boot.kernel.name} died {when}.{console}",
        "See all of its console with --verbose.",
    )
