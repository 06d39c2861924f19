"""`pte-trace doctor`: what this kernel allows."""

from __future__ import annotations

import json
import sys

import click

from pte_trace.errors import HostError
from pte_trace.host import facts, plan
from pte_trace.programs.image import bcc_version
from pte_trace.views import diagnosis, text


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def doctor(as_json: bool) -> None:
    """Say what this kernel allows: facts, the plan for each hook, what is degraded.

    Nothing stays attached: each way to hook a function is tried for an instant. Whether the
    optimization is at work is found by doing it, in a child process. Exit status 3 where this
    host cannot be traced, with the reason and what mends it.

    \b
    Examples:
      sudo pte-trace doctor
      sudo pte-trace doctor --json
    """
    btf, problem = facts.read_btf()
    found = facts.collect(btf, problem, bcc_version())
    planned = plan.make(found)
    if as_json:
        json.dump(diagnosis.document(found, planned), sys.stdout, indent=2)
        print()
    else:
        text.console(sys.stdout).print(diagnosis.page(found, planned))
    sys.stdout.flush()
    if planned.refusal:
        raise HostError(planned.refusal.why, planned.refusal.mend)
