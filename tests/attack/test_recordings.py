"""Recordings of strangers: what they say, or one sentence why they are not believed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attack.bounded import Ended, pte_trace, python
from tests.attack.recordings import HOSTILE, sparse

VIEWS: dict[str, Callable[[Path], Ended]] = {
    "report": lambda path: pte_trace("report", path),
    "json": lambda path: pte_trace("report", "--format", "json", path),
    "page": lambda path: pte_trace("report", "--html", path.with_suffix(".html"), path),
    "compare": lambda path: pte_trace("compare", path, path),
    "replay": lambda path: pte_trace("top", "--replay", path, "--speed", "1e9"),
    "load": lambda path: python(
        "import pte_trace, sys\n"
        "from pte_trace.errors import PteTraceError\n"
        "try:\n"
        "    print(len(pte_trace.load(sys.argv[1])))\n"
        "except PteTraceError as error:\n"
        "    sys.exit(str(error))",
        path,
    ),
}
ALL_VIEWS = ("a frame of zeros", "an interval packed twice", "names that write to the terminal")


def looked_at(path: Path, view: str) -> Ended:
    ended = VIEWS[view](path).check(0, 1, 2) if view == "load" else VIEWS[view](path).check(0, 2)
    shown = ended.stdout + ended.stderr
    assert all(each.isprintable() or each == "\n" for each in shown)
    return ended


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_recording_is_reported_or_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "r.parquet"
    path.write_bytes(HOSTILE[what]())
    looked_at(path, "report")


@pytest.mark.parametrize("view", [view for view in VIEWS if view != "report"])
@pytest.mark.parametrize("what", ALL_VIEWS)
def test_every_view_of_it_comes_or_is_refused(tmp_path: Path, view: str, what: str) -> None:
    path = tmp_path / "r.parquet"
    path.write_bytes(HOSTILE[what]())
    looked_at(path, view)


def test_a_footer_that_is_said_to_be_gigabytes_is_not_read(tmp_path: Path) -> None:
    ended = looked_at(sparse(tmp_path / "r.parquet"), "report")
    assert ended.status == 2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "is no file, but a pipe or a device"),
        (os.mkdir, "cannot be read: Is a directory"),
        (lambda path: os.symlink("/dev/zero", path), "is no file, but a pipe or a device"),
        (lambda path: os.symlink("/dev/null", path), "is no file, but a pipe or a device"),
        (lambda path: os.symlink(path, path), "cannot be read: Too many levels"),
        (lambda path: None, "cannot be read: No such file"),
        (lambda path: os.symlink("/proc/self/mem", path), "cannot be read"),
    ],
    ids=["a pipe", "a directory", "zeros", "nothing", "a loop", "not there", "memory"],
)
@pytest.mark.parametrize("view", ["report", "compare", "replay"])
def test_what_is_no_file_is_refused(
    tmp_path: Path, make: Callable[[Path], None], said: str, view: str
) -> None:
    path = tmp_path / "r.parquet"
    make(path)
    ended = VIEWS[view](path).check(2)
    assert said in ended.stderr
