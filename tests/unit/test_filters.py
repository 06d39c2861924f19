"""Filters and where output goes: checked before anything is traced."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from subprocess import PIPE

import pytest

from pte_trace.commands import options
from pte_trace.commands.options import Request, make_filters
from pte_trace.effort import EVERYTHING
from pte_trace.errors import UsageError
from pte_trace.filters import Filters

NO_PID = 2**22 + 1  # above the kernel's PID_MAX_LIMIT


@contextmanager
def thread_id() -> Iterator[int]:
    """The id of a thread of this process that is not its first."""
    started, finish = threading.Event(), threading.Event()
    ids: list[int] = []

    def run() -> None:
        ids.append(threading.get_native_id())
        started.set()
        finish.wait()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    try:
        yield ids[0]
    finally:
        finish.set()
        thread.join()


@contextmanager
def process_called(name: bytes, directory: Path) -> Iterator[int]:
    """The PID of a process of this name, waiting."""
    program = directory / os.fsdecode(name)
    shutil.copy(shutil.which("cat") or "/bin/cat", program)
    with subprocess.Popen([program], stdin=PIPE, stdout=PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"!")
        process.stdout.read(1)  # an answer: it runs, and has its name
        yield process.pid


def test_without_options_everything_passes() -> None:
    assert make_filters((), None, None) == Filters()
    assert not Filters().by_process


def test_processes_are_taken_as_given() -> None:
    filters = make_filters((os.getpid(), os.getppid()), None, None)
    assert filters.pids == (os.getpid(), os.getppid())
    assert filters.by_process


def test_children_are_followed_by_process() -> None:
    assert make_filters((), None, None, children=True).by_process


def test_a_pid_that_nobody_has_is_refused() -> None:
    with pytest.raises(UsageError, match=f"There is no process {NO_PID}") as caught:
        make_filters((os.getpid(), NO_PID), None, None)
    assert "ps -e" in caught.value.mend


def test_a_thread_is_refused_and_its_process_told() -> None:
    with thread_id() as thread, pytest.raises(UsageError) as caught:
        make_filters((thread,), None, None)
    assert caught.value.what == f"{thread} is a thread of process {os.getpid()}."
    assert caught.value.mend == f"Filter by process: -p {os.getpid()}"


@pytest.mark.parametrize("name", [b"Tgid: x", b"caf\xe9"], ids=["Tgid: x", "not UTF-8"])
def test_a_process_may_be_called_anything(name: bytes, tmp_path: Path) -> None:
    with process_called(name, tmp_path) as pid:
        assert make_filters((pid,), None, None).pids == (pid,)


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be empty"):
        make_filters((), "", None)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("java", "java"),
        ("with space", "with space"),
        ("0123456789abcde", "0123456789abcde"),
        ("a-very-long-program-name", "a-very-long-pro"),
        ("ééééééé", "ééééééé"),
    ],
)
def test_a_name_is_as_long_as_the_kernel_keeps_it(given: str, kept: str) -> None:
    assert make_filters((), given, None).comm == kept


def test_a_name_that_is_not_utf8_is_taken_or_refused() -> None:
    """As Python passes on an argument that is not: with lone surrogates."""
    typed = os.fsdecode(b"caf\xe9")
    with suppress(UsageError):
        make_filters((), typed, None)


def test_a_cgroup_is_a_directory_with_its_control_files(tmp_path: Path) -> None:
    for control in ("cgroup.procs", "cgroup.controllers"):
        (tmp_path / control).touch()
    assert make_filters((), None, str(tmp_path)).cgroup == tmp_path


@pytest.mark.parametrize("files", [[], ["cgroup.procs"], ["tasks", "cgroup.procs"]])
def test_another_directory_is_no_cgroup(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match="is not a cgroup") as caught:
        make_filters((), None, str(tmp_path))
    assert caught.value.what.startswith(str(tmp_path))
    assert "/sys/fs/cgroup" in caught.value.mend


def test_a_path_that_does_not_exist_is_no_cgroup() -> None:
    with pytest.raises(UsageError, match=r"no/such\.slice is not a cgroup"):
        make_filters((), None, "no/such.slice")


@pytest.fixture
def version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for control in ("cgroup.procs", "cgroup.controllers"):
        (tmp_path / control).touch()
    monkeypatch.setattr(options, "_CGROUP_MOUNT", tmp_path)


@pytest.mark.usefixtures("version_2")
def test_units_and_containers_are_taken_as_given() -> None:
    filters = make_filters((), None, None, unit="nginx.service", container="0123456789ab")
    assert (filters.unit, filters.container) == ("nginx.service", "0123456789ab")
    assert filters.by_cgroup


@pytest.mark.usefixtures("version_2")
@pytest.mark.parametrize(
    "unit", ["", "nginx", "system.slice", "a/b.service", "x" * 248 + ".service", "/nginx.service"]
)
def test_what_is_no_unit_with_processes(unit: str) -> None:
    with pytest.raises(UsageError, match="is not the name of a unit") as caught:
        make_filters((), None, None, unit=unit)
    assert "systemctl" in caught.value.mend


@pytest.mark.usefixtures("version_2")
@pytest.mark.parametrize(
    "container", ["", "web", "0123456789a", "0123456789AB", "0" * 65, "0123456789ab\n"]
)
def test_what_is_no_containers_id(container: str) -> None:
    with pytest.raises(UsageError, match="is not the id of a container") as caught:
        make_filters((), None, None, container=container)
    assert "docker ps" in caught.value.mend


@pytest.mark.parametrize(("unit", "container"), [("nginx.service", None), (None, "0123456789ab")])
def test_without_version_2_there_is_nothing_to_know_them_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str | None, container: str | None
) -> None:
    monkeypatch.setattr(options, "_CGROUP_MOUNT", tmp_path)
    with pytest.raises(UsageError, match="no cgroups of version 2"):
        make_filters((), None, None, unit=unit, container=container)


def output_to(path: Path | None) -> Request:
    return Request(
        Filters(), "text", path, split=False, max_vmas=64, attach="auto", effort=EVERYTHING
    )


def test_without_a_file_output_goes_where_it_went() -> None:
    default = StringIO()
    with output_to(None).output(default) as stream:
        assert stream is default
    assert not default.closed


def test_a_file_takes_the_output(tmp_path: Path) -> None:
    with output_to(tmp_path / "out").output(sys.stdout) as stream:
        stream.write("ünï\n")
    assert stream.closed
    assert (tmp_path / "out").read_text("utf-8") == "ünï\n"


def test_a_file_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "none" / "out"
    with pytest.raises(UsageError) as caught, output_to(path).output(sys.stdout):
        pytest.fail("it was opened")
    assert caught.value.what == f"{path} cannot be written: No such file or directory."
    assert caught.value.mend == "Give -o a file you may write."
