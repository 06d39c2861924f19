"""The wheel that is built of this checkout: it holds, and finds, what a checkout has beside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

import pte_trace

ROOT = Path(__file__).parents[2]
# What an installed package must find of its own, each said in a line.
LOOK = """
import sys
sys.path.insert(0, sys.argv[1])
from importlib.resources import files
from pte_trace.programs import program
from pte_trace.exporter.page import template
print(program.source_directory())
print(program.source("records.h").count("struct vma_record {"))
print(template().filename)
print(files("pte_trace.lab").joinpath("kernel.config"))
print(files("pte_trace.bench").joinpath("seed.c"))
"""


def pip(*arguments: object) -> None:
    """Nothing is looked for elsewhere."""
    subprocess.run(
        [sys.executable, "-m", "pip", *map(str, arguments), "--no-deps", "--no-index", "--quiet"],
        check=True,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "--wheel-dir", directory, ROOT)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("installed")
    pip("install", "--target", directory, wheel)
    return directory


def below(directory: str) -> Iterator[str]:
    """The files of a directory of the checkout, by their path in it."""
    for path in (ROOT / directory).rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield str(path.relative_to(ROOT))


def test_the_wheel_holds_the_package_and_the_bpf_programs(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    assert set(below("pte_trace")) <= names
    programs = {f"pte_trace/{name}" for name in below("bpf")}
    assert {"pte_trace/bpf/records.h", "pte_trace/bpf/walk.h"} <= programs <= names


def test_the_wheel_holds_command_manual_page_and_completions(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    data = f"pte_trace-{pte_trace.__version__}.data"
    shared = {name for name in below("share") if not name.startswith("share/bin/")}
    assert {f"{data}/data/{name}" for name in shared} <= names
    assert f"{data}/scripts/pte-trace" in names


def test_nothing_else_is_installed(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in ZipFile(wheel).namelist()}
    stem = f"pte_trace-{pte_trace.__version__}"
    assert tops == {"pte_trace", f"{stem}.data", f"{stem}.dist-info"}


def test_the_installed_package_finds_what_is_its_own(installed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOOK, installed],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    programs, structs, *files = done.stdout.splitlines()
    assert Path(programs) == installed / "pte_trace/bpf"
    assert structs == "1"
    for path in files:
        assert Path(path).is_relative_to(installed)
        assert Path(path).is_file()


def test_the_command_can_be_executed(installed: Path) -> None:
    assert (installed / "bin/pte-trace").stat().st_mode & 0o111
