"""What surrounds BCC while it compiles: nothing that somebody else could have put there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pte_trace.driver import kernel_source
from pte_trace.program import kernel_tree, source_directory


def test_bcc_sees_our_tree_and_no_other_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("BCC_KERNEL_SOURCE", "BCC_LINUX_VERSION_CODE", "CPATH", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    before = dict(os.environ)
    with kernel_source():
        assert dict(os.environ) == {"BCC_KERNEL_SOURCE": kernel_tree()}
    assert os.environ == before
    assert list(tmp_path.iterdir()) == []


def test_the_tree_is_part_of_the_package() -> None:
    assert Path(kernel_tree()).is_absolute()
    assert Path(kernel_tree()).samefile(str(source_directory() / "kernel"))
