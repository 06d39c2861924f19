"""A directory that another user would like root's Python, BCC and compiler to read from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_LOADED_BY_PYTHON = ("sitecustomize", "usercustomize", "encodings", "re", "click", "bcc", "pandas")
_NAMING_FILES = (
    *("BCC_KERNEL_SOURCE", "BCC_KERNEL_MODULES_DIR", "CPATH", "C_INCLUDE_PATH", "COMPILER_PATH"),
    *("GCC_EXEC_PREFIX", "LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP"),
    *("PYTHONUSERBASE", "TMPDIR", "PATH"),
)


def fill(directory: Path) -> Mapping[str, str]:
    """Put there what tells of its being used, by a file `used`. Returns an environment to it."""
    used = directory / "used"
    for module in _LOADED_BY_PYTHON:
        (directory / f"{module}.py").write_text(f"open({str(used)!r}, 'a').write(__name__)\n")
    for program in ("cc", "gcc", "as", "ld", "python3", "readlink", "sh"):
        (directory / program).write_text(f"#!/bin/sh\necho {program} >>{used}\n")
        (directory / program).chmod(0o755)
    return {**os.environ, **dict.fromkeys(_NAMING_FILES, str(directory))}


def used(directory: Path) -> str:
    """What of it was used, and what was left there."""
    there = directory / "used"
    return there.read_text() if there.exists() else ""
