"""What surrounds BCC while it compiles: nothing that somebody else could have put there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pte_trace.driver import kernel_source
from tests.unit.test_kernel_types import kernel


def test_bcc_sees_our_tree_and_no_other_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("BCC_KERNEL_SOURCE", "BCC_LINUX_VERSION_CODE", "CPATH", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    before = dict(os.environ)
    with kernel_source(kernel()):
        (name,) = os.environ
        assert name == "BCC_KERNEL_SOURCE"
        tree = Path(os.environ[name])
        assert (tree / "include/linux/types.h").is_file()
        assert tree.parent == Path("/tmp")
        assert stat.S_IMODE(tree.stat().st_mode) == 0o700
    assert os.environ == before
    assert not tree.exists()
    assert list(tmp_path.iterdir()) == []
