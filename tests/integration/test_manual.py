"""What the package installs beside the program: a manual page, and completions that complete."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts import script

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def manual() -> ModuleType:
    return script("manual")


def test_the_package_installs_all_of_it(manual: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    installed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]

    assert installed == {f"share/{path}": f"share/{path}" for path in manual.files()}


def test_the_manual_page_has_every_command_and_option(manual: ModuleType) -> None:
    page = manual.files()[Path("man/man1/pte-trace.1")]

    for command in ("record", "compare", "lab run"):
        assert f".SS pte\\-trace {command}" in page
    assert "\\-\\-replay" in page
    assert ".SH EXIT STATUS" in page


def test_the_manual_page_is_sound() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", ROOT / "share/man/man1/pte-trace.1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [("pte-trace re", {"record", "report"}), ("pte-trace compare --ht", {"--html"})],
)
def test_completion_completes(shell: str, words: str, expected: set[str]) -> None:
    """As the shells' functions ask for it."""
    done = subprocess.run(
        [sys.executable, "-c", "from pte_trace.__main__ import main; main()"],
        env={
            "_PTE_TRACE_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": words.split()[-1] if shell == "fish" else str(len(words.split()) - 1),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    for each in expected:
        assert re.search(rf"(?:^|,){each}(?:\t|$)", done.stdout, re.MULTILINE), done.stdout
