"""Files to write to, where others were before us: only what is meant is written, and all of it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pte_trace.recording.reading import Recording
from tests.attack.bounded import Ended, pte_trace, python, simulated
from tests.builders import snapshot
from tests.recordings import interval, recorded
from tests.simulated import RECORDS

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root has files of another user")
STRANGER = 4242
TRUE = ("--", "true")

Write = Callable[[Path], Ended]
WRITERS: dict[str, Write] = {
    "run": lambda path: simulated("run", "--format", "json", "-o", path, *TRUE),
    "top": lambda path: simulated("top", "-n", "1", "-i", "0.1", "-o", path),
    "record": lambda path: simulated("--plain", "record", "-o", path, *TRUE),
}
SUFFIX = {"run": "report.json", "top": "report.txt", "record": "report.parquet"}
writers = pytest.mark.parametrize("writer", WRITERS)


@pytest.fixture
def anybodys(tmp_path: Path) -> Path:
    """A directory such as /tmp."""
    directory = tmp_path / "anybodys"
    directory.mkdir()
    directory.chmod(0o1777)
    return directory


def written(path: Path) -> bool:
    """Whether it holds a report."""
    if path.suffix == ".parquet":
        with Recording(path) as recording:
            return recording.ended
    return "worker" in path.read_text()


@ROOT
@writers
@pytest.mark.parametrize("leads_to", ["a file", "nothing"])
def test_a_planted_link_is_not_followed(
    tmp_path: Path, anybodys: Path, writer: str, leads_to: str
) -> None:
    target, link = tmp_path / "roots", anybodys / SUFFIX[writer]
    if leads_to == "a file":
        target.write_text("root's own")
    link.symlink_to(target)
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    ended = WRITERS[writer](link).check(2)
    assert "another user put there what has this name" in ended.stderr
    assert not target.exists() or target.read_text() == "root's own"
    assert link.is_symlink()


@ROOT
@writers
def test_a_planted_directory_is_not_followed(tmp_path: Path, anybodys: Path, writer: str) -> None:
    (tmp_path / "roots").mkdir()
    link = anybodys / "mine"
    link.symlink_to(tmp_path / "roots")
    os.chown(link, STRANGER, STRANGER, follow_symlinks=False)
    WRITERS[writer](link / SUFFIX[writer]).check(2)
    assert list((tmp_path / "roots").iterdir()) == []


@ROOT
@writers
@pytest.mark.parametrize("planted", ["file", "pipe"])
def test_what_another_user_put_there_is_not_written_to(
    anybodys: Path, writer: str, planted: str
) -> None:
    path = anybodys / SUFFIX[writer]
    if planted == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("theirs")
    os.chown(path, STRANGER, STRANGER)
    WRITERS[writer](path).check(2)
    assert path.is_fifo() or path.read_text() == "theirs"


@writers
def test_ones_own_link_is_followed(tmp_path: Path, anybodys: Path, writer: str) -> None:
    target, link = tmp_path / SUFFIX[writer], anybodys / SUFFIX[writer]
    link.symlink_to(target)
    WRITERS[writer](link).check(0)
    assert link.is_symlink()
    assert written(target)


@ROOT
def test_nothing_beside_a_recording_is_taken_for_ours(anybodys: Path, tmp_path: Path) -> None:
    """Whatever was laid there in advance."""
    roots = tmp_path / "roots"
    roots.write_text("root's own")
    path = anybodys / "r.parquet"
    for name in ("r.parquet.unfinished", ".r.parquet.unfinished", ".pte-trace"):
        (anybodys / name).symlink_to(roots)
        os.chown(anybodys / name, STRANGER, STRANGER, follow_symlinks=False)
    WRITERS["record"](path).check(0)
    assert written(path)
    assert roots.read_text() == "root's own"
    assert len(list(anybodys.iterdir())) == 4


@writers
@pytest.mark.parametrize("mode", [0o640, 0o600, 0o666])
def test_owner_and_permissions_stay(tmp_path: Path, writer: str, mode: int) -> None:
    path = tmp_path / SUFFIX[writer]
    path.write_text("old")
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, STRANGER, STRANGER + 1)
    before = path.stat()
    WRITERS[writer](path).check(0)
    after = path.stat()
    assert written(path)
    for name in ("st_uid", "st_gid", "st_mode"):
        assert getattr(after, name) == getattr(before, name)
    assert list(tmp_path.iterdir()) == [path]


@writers
def test_another_name_of_the_file_stays_one(tmp_path: Path, writer: str) -> None:
    path = tmp_path / SUFFIX[writer]
    path.write_text("old")
    (tmp_path / "other").hardlink_to(path)
    WRITERS[writer](path).check(0)
    assert path.samefile(tmp_path / "other")
    assert written(path)


def test_a_file_in_a_directory_that_is_not_ours_to_write_to() -> None:
    """Nothing can be made beside it."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "r.parquet"
        path.write_text("old")
        path.chmod(0o666)
        path.parent.chmod(0o555)
        script = (
            "import os, sys; from pathlib import Path\n"
            "from tests.attack.test_files import STRANGER, one\n"
            "os.geteuid() or os.seteuid(STRANGER)\n"
            "one(Path(sys.argv[1]))"
        )
        assert python(script, path).check(0).stderr == ""
        assert written(path)
        assert list(path.parent.iterdir()) == [path]


def one(path: Path) -> None:
    recorded(path, [interval(snapshot(*RECORDS[:1]))])


def test_a_file_that_went_elsewhere_meanwhile_has_the_recording(tmp_path: Path) -> None:
    path, moved = tmp_path / "r.parquet", tmp_path / "moved.parquet"
    simulated(
        "--plain", "record", "-o", path, "--", "sh", "-c", f"sleep 1.5; mv {path} {moved}"
    ).check(0)
    assert written(moved)
    assert not path.exists()


NOWHERE = ("/dev/null/x", "/proc/self/x", "no/such/x", "x" * 300, "x/" * 3000)


@pytest.mark.parametrize(
    ("command", "path"),
    [
        *(("run", path) for path in ("/dev/full", "/", "..", *NOWHERE)),
        *(("record", f"{path}.parquet") for path in NOWHERE),
    ],
)
def test_where_nothing_can_be_written(tmp_path: Path, path: str, command: str) -> None:
    simulated("--plain", command, "-o", path, *TRUE, cwd=tmp_path).check(1, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["\x1b[2J\x1b]0;x\x07", "a\u202etxt", "\udcff\udcfe", "-", "%s{}"])
def test_a_name_of_anything_is_shown_as_what_it_is(tmp_path: Path, name: str) -> None:
    path = f"./{name}.jsonl"
    ended = simulated("--plain", "record", "-o", path, *TRUE, cwd=tmp_path).check(0)
    assert all(each.isprintable() or each == "\n" for each in ended.stderr)
    assert [*map(os.fsencode, os.listdir(tmp_path))] == [os.fsencode(f"{name}.jsonl")]


LONG = ("--", "sh", "-c", "for n in 1 2 3 4 5 6; do sleep 0.4; done; echo done; exit 7")


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_a_limit_under_record_is_said_at_once_and_the_command_goes_on(
    tmp_path: Path, ending: str
) -> None:
    """So is a full disk: tests/kernel/test_strangers.py. Each of these has room for some."""
    path = tmp_path / f"r.{ending}"
    limit = {"parquet": 10, "jsonl": 40, "csv": 3}[ending]
    words = " ".join(
        [
            f"ulimit -f {limit}; exec",
            sys.executable,
            "-m",
            "tests.simulated",
            "--plain",
            "record",
            "-i",
            "0.1",
        ]
    )
    with subprocess.Popen(
        ["bash", "-c", f'{words} "$@"', "bash", "-o", str(path), *LONG],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        said = process.stderr.readline()
        assert said.startswith(f"pte-trace: {path} cannot be written: File too large. What comes")
        assert process.poll() is None
        assert process.stdout.read() == "done\n"
        rest = process.stderr.read()
    assert process.returncode == 7
    assert "not recorded" in rest
    assert "Traceback" not in rest
    if ending == "parquet":
        assert " intervals of " in pte_trace("report", path).check(0).stdout
    elif ending == "jsonl":
        assert all(map(json.loads, path.read_text().splitlines()))
    else:
        assert path.read_text().endswith("\n")


def test_a_limit_without_a_command_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    ended = simulated(
        "--plain", "record", "-i", "0.1", "-o", path, preexec_fn=lambda: _limit_files(10_000)
    )
    ended.check(1)
    assert "cannot be written: File too large" in ended.stderr
    pte_trace("report", path).check(0)


def _limit_files(size: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "watched"
    directory.mkdir()
    yield directory
    assert [each for each in directory.iterdir() if stat.S_ISREG(each.stat().st_mode)] == []


def test_what_fails_leaves_no_file(watched: Path) -> None:
    simulated("--plain", "record", "-o", watched / "r.parquet", "--", "./no-such-program").check(
        127
    )
