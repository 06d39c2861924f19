"""Run a command in a kernel of the lab, from its name to its exit status."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pte_trace.errors import HostError
from pte_trace.lab import boot, cache, kvm, tools
from pte_trace.lab.boot import Boot, BootError
from pte_trace.lab.build import Builder
from pte_trace.lab.fetch import Fetcher
from pte_trace.lab.guest import Guest
from pte_trace.lab.kernels import BUILT, Kernel, check_names
from pte_trace.lab.progress import Progress, silent
from pte_trace.lab.supervise import Sink


def run(
    kernel_name: str,
    argv: Sequence[str],
    *,
    cpus: int | None = None,
    memory: str = "4G",
    icount: bool = False,
    timeout: float = 600,
    rwdirs: Sequence[Path] = (),
    network: bool = False,
    options: Sequence[str] = (),
    plugin: str | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run argv in a kernel of the lab; as subprocess.run with captured output.

    Raises what `ready` and `stream` do.
    """
    guest = Guest(
        cpus,
        memory,
        icount,
        timeout,
        tuple(rwdirs),
        network,
        options=tuple(options),
        plugin=plugin,
    )
    stdout, stderr = bytearray(), bytearray()
    progress = silent()
    kernel = ready(kernel_name, progress)
    status = stream(kernel, argv, guest, stdout.extend, stderr.extend, progress)
    return subprocess.CompletedProcess(list(argv), status, bytes(stdout), bytes(stderr))


def ready(name: str, progress: Progress) -> Kernel:
    """A kernel of the lab; a missing one is fetched or built.

    UsageError for an unknown name, HostError where it cannot be had or booted here.
    """
    check_names([name])
    tools.check_boot_tools()
    directory = cache.directory()
    return cache.find(directory, name) or _bring(directory, name, progress)


def stream(
    kernel: Kernel,
    argv: Sequence[str],
    guest: Guest,
    stdout: Sink,
    stderr: Sink,
    progress: Progress,
) -> int:
    """Run argv in *kernel*, hand on its output as it comes, return its status.

    An emulated kernel dies now and then while it boots: it is booted once more. HostError
    where the guest cannot be booted, does not end in time or dies.
    """
    booted = Boot(kernel, guest, not guest.only_emulated and _kvm_usable(kernel, progress))

    def attempt() -> int:
        with ExitStack() as waiting:
            if not guest.verbose:
                waiting.enter_context(progress.spinner(f"Booting {booted}"))
            return boot.run(booted, argv, stdout, stderr, waiting.close)

    try:
        return attempt()
    except BootError as error:
        progress.say(f"{error.what}\nIt is booted once more.")
        return attempt()


def _bring(directory: Path, name: str, progress: Progress) -> Kernel:
    if name in BUILT:
        progress.say(f"{name} is not built yet: this takes about a quarter of an hour")
        return Builder(directory, progress).ensure(name)
    progress.say(f"{name} is not fetched yet")
    return Fetcher(directory, progress).ensure(name)


def _kvm_usable(kernel: Kernel, progress: Progress) -> bool:
    def trial() -> bool:
        guest = Guest(cpus=1, memory="1G", timeout=kvm.TRIAL_TIMEOUT)
        with progress.step("Trying KVM, once"):
            try:
                return boot.run(Boot(kernel, guest, True), ["true"], _ignore, _ignore) == 0
            except HostError:
                return False

    return kvm.usable(cache.directory(), trial)


def _ignore(data: bytes) -> None:
    pass
