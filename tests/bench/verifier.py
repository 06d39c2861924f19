"""How many instructions the verifier looks at as it loads each program, on each kernel.

    make bench

Boots each kernel, traces with everything that can be asked for, and reads `verified_insns` of
struct bpf_prog_info, which is there since Linux 5.16 (aba64c7da983): before, 0 says that the
programs were accepted. Prints a table and writes the figures to docs/overhead/verifier.json.
"""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from pte_trace.effort import Effort
from pte_trace.filters import Filters
from pte_trace.session import Session
from tests.bench import guest

_RECORDED = Path(__file__).parents[2] / "docs/overhead/verifier.json"
_TIMEOUT = 900.0


def measure() -> dict[str, int]:
    """In the guest: by kind and function."""
    with Session(Filters(children=True), effort=Effort(stacks=1)) as session:
        programs = session.driver.programs()
    return {name: account.verified_instructions for name, account in programs.items()}


def _shown(found: dict[str, dict[str, int]]) -> Table:
    table = Table(title="Instructions verified", box=None)
    for heading in ("PROGRAM", *found):
        table.add_column(heading, justify="left" if heading == "PROGRAM" else "right")
    for name in dict.fromkeys(name for programs in found.values() for name in programs):
        counts = (programs.get(name) for programs in found.values())
        table.add_row(name, *("-" if count is None else f"{count:,}" for count in counts))
    return table


def main(*kernels: str) -> None:
    found = {kernel: guest.measured("tests.bench.verifier", kernel, _TIMEOUT) for kernel in kernels}
    guest.record(found, _shown(found), _RECORDED)


if __name__ == "__main__":
    guest.program(measure, main)
