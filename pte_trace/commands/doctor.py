"""`pte-trace doctor`: what this kernel allows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from pte_trace.errors import HostError
from pte_trace.host import facts, offline, plan
from pte_trace.host.facts import HostFacts
from pte_trace.programs.image import bcc_version
from pte_trace.views import diagnosis, text


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option(
    "--kernel",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Say it of another kernel, from its vmlinux or a copy of its BTF.",
)
def doctor(as_json: bool, kernel: Path | None) -> None:
    """Say what this kernel allows: facts, the plan for each hook, what is degraded.

    Nothing stays attached: each way to hook a function is tried for an instant. Whether the
    optimization is at work is found by doing it, in a child process. Exit status 3 where this
    host cannot be traced, with the reason and what mends it.

    With --kernel nothing is tried. FILE is a vmlinux, or a copy of /sys/kernel/btf/vmlinux. What
    is beside it is read as well: System.map or a copy of /proc/kallsyms, and config. Their names
    may end in the release, as below /boot.

    \b
    Examples:
      sudo pte-trace doctor
      sudo pte-trace doctor --json
      pte-trace doctor --kernel vmlinux-6.12.0
    """
    found = _of_this_host() if kernel is None else offline.facts(offline.read(kernel))
    planned, file = plan.make(found), None if kernel is None else str(kernel)
    if as_json:
        json.dump(diagnosis.document(found, planned, file), sys.stdout, indent=2)
        print()
    else:
        text.console(sys.stdout).print(diagnosis.page(found, planned, file))
    sys.stdout.flush()
    if planned.refusal:
        raise HostError(planned.refusal.why, planned.refusal.mend)


def _of_this_host() -> HostFacts:
    btf, problem = facts.read_btf()
    return facts.collect(btf, problem, bcc_version())
