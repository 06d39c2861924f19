"""What rights `pte-trace serve` has while it answers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pte_trace.exporter.rights import NOBODY
from tests.integration.served import PASSWORD, PATIENCE_S, Serve, Served, basic, users

CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapAmb")
CAP_BPF, CAP_DAC_READ_SEARCH = 1 << 39, 1 << 2


def threads(served: Served) -> list[dict[str, str]]:
    """/proc/PID/status of each thread."""
    found = []
    for path in Path(f"/proc/{served.process.pid}/task").glob("*/status"):
        lines = path.read_text().splitlines()
        found.append(
            {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}
        )
    return found


@pytest.mark.parametrize("config", [False, True])
def test_it_gives_up_its_rights(serve: Serve, tmp_path: Path, config: bool) -> None:
    path = tmp_path / "web.yml"
    path.write_text(users())
    served = serve(*(("--web-config", path) if config else ()))
    assert served.status(Authorization=basic("ann", PASSWORD)) == 200
    had = int(Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0], 16)
    kept = had & CAP_DAC_READ_SEARCH if config else 0
    user = os.geteuid() or NOBODY
    assert len(threads(served)) > 1
    for thread in threads(served):
        assert set(thread["Uid"].split()) == {str(user)}
        # Whether CAP_BPF is kept is up to this kernel.
        found = [int(thread[name], 16) & ~CAP_BPF for name in CAPABILITIES]
        assert found == [0, kept, kept, 0]
        assert thread["NoNewPrivs"] == "1"
        if not os.geteuid():
            assert set(thread["Gid"].split()) == {str(NOBODY)}
            assert thread["Groups"] == ""
            assert int(thread["CapBnd"], 16) == 0


def test_root_that_may_not_give_up_its_rights_does_not_serve(serve: Serve) -> None:
    if os.geteuid():
        pytest.skip("only root can show it")
    served = serve(before=("setpriv", "--bounding-set=-setuid", "--inh-caps=-setuid"))
    _, errors = served.process.communicate(timeout=PATIENCE_S)
    assert served.process.returncode == 3
    assert "Root's rights cannot be given up: operation not permitted." in errors
