"""Booting, with the launcher's part played by a function; and the supervision of processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from pte_trace.errors import HostError
from pte_trace.lab import boot, kvm, running, script, tools
from pte_trace.lab.boot import Boot, BootError
from pte_trace.lab.guest import Guest
from pte_trace.lab.kernels import Kernel
from pte_trace.lab.progress import silent
from pte_trace.lab.supervise import Sink, supervise

BOOT = Boot(Kernel("sid", "7-amd64", Path("/c/vmlinuz"), Path("/c")), Guest(timeout=30), kvm=False)


def nothing() -> None:
    pass


def discard(data: bytes) -> None:
    pass


class Guests:
    """A launcher whose guest does in the shared directory what `act` does."""

    def __init__(self, act: Callable[[Path], None]) -> None:
        self.act = act
        self.shared = Path()

    def __call__(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        timeout: float,
        stdout: Sink,
        stderr: Sink,
        tick: Callable[[], None],
    ) -> None:
        self.shared = Path(environ["TMPDIR"])
        assert f"PATH={self.shared}/shims" in " ".join(arguments)
        assert timeout == 30
        self.act(self.shared)
        tick()
        stdout(b"out")
        stderr(b"err")


def test_the_commands_status_and_output_come_back() -> None:
    def works(shared: Path) -> None:
        subprocess.run(script.guest_command(shared), shell=True, check=False)

    guests, out, err, began = Guests(works), bytearray(), bytearray(), []
    status = boot.run(
        BOOT,
        ["sh", "-c", "exit 255"],
        out.extend,
        err.extend,
        lambda: began.append(True),
        guests,
    )
    assert (status, bytes(out), bytes(err)) == (255, b"out", b"err")
    assert began
    assert not guests.shared.exists()


@pytest.mark.parametrize(
    ("begun", "when"), [(False, "while it booted"), (True, "before its command had ended")]
)
def test_a_guest_that_dies_shows_its_console(begun: bool, when: str) -> None:
    def panics(shared: Path) -> None:
        if begun:
            (shared / "started").touch()
        (shared / script.CONSOLE).write_text("[ 1.0] Kernel panic - not syncing: why\n")

    with pytest.raises(HostError, match=f"sid died {when}") as caught:
        boot.run(BOOT, ["true"], discard, discard, launch=Guests(panics))
    assert isinstance(caught.value, BootError) is not begun
    assert caught.value.what.endswith("Kernel panic - not syncing: why")
    assert caught.value.exit_status == 3


@pytest.mark.parametrize(
    ("begun", "what"), [(False, "still booting"), (True, "its command was running")]
)
def test_a_guest_that_hangs_says_where(begun: bool, what: str) -> None:
    def hangs(shared: Path) -> None:
        if begun:
            (shared / "started").touch()
        raise subprocess.TimeoutExpired("virtme-run", 30)

    with pytest.raises(HostError, match=f"stopped after 30 s; .*{what}") as caught:
        boot.run(BOOT, ["true"], discard, discard, launch=Guests(hangs))
    assert "--timeout" in caught.value.mend


class Deaths:
    """boot.run, of a guest that dies so often before its command has begun, or after."""

    def __init__(self, number: int, kind: type[HostError]) -> None:
        self.number, self.kind = number, kind

    def __call__(self, *_: object) -> int:
        self.number -= 1
        if self.number >= 0:
            raise self.kind("The guest sid died.", "")
        return 7


def booted(deaths: Deaths, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(boot, "run", deaths)
    guest = Guest(icount=True)
    return running.stream(BOOT.kernel, ["true"], guest, discard, discard, silent())


def test_a_guest_that_dies_while_it_boots_is_booted_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert booted(Deaths(1, BootError), monkeypatch) == 7


@pytest.mark.parametrize("deaths", [Deaths(2, BootError), Deaths(1, HostError)])
def test_no_more_often_and_not_when_its_command_has_begun(
    deaths: Deaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(deaths.kind):
        booted(deaths, monkeypatch)
    assert deaths.number == 0


def shell(text: str, timeout: float = 20) -> tuple[bytes, bytes]:
    out, err = bytearray(), bytearray()
    supervise(["sh", "-c", text], os.environ, timeout, out.extend, err.extend, nothing)
    return bytes(out), bytes(err)


def gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def test_output_and_errors_are_kept_apart() -> None:
    assert shell("echo out; echo err >&2; printf '\\377\\0'") == (b"out\n\xff\0", b"err\n")


def test_much_output_is_whole() -> None:
    assert len(shell("head -c 3000000 /dev/zero")[0]) == 3000000


def test_the_input_is_empty() -> None:
    assert shell("cat; readlink /proc/self/fd/0") == (b"/dev/null\n", b"")


def test_a_file_is_never_the_childs_own_output() -> None:
    assert shell("readlink /proc/self/fd/1")[0].startswith(b"pipe:")


def test_a_hanging_group_is_gone_afterwards() -> None:
    out = bytearray()
    with pytest.raises(subprocess.TimeoutExpired):
        supervise(
            ["sh", "-c", "sleep 100 & echo $! $$; wait"],
            os.environ,
            0.3,
            out.extend,
            discard,
            nothing,
        )
    assert all(gone(int(pid)) for pid in out.split())


def test_a_child_that_outlives_its_parent_is_ended_too() -> None:
    out, _ = shell("sleep 100 >/dev/null 2>&1 & echo $!")
    assert gone(int(out))


def test_a_sink_that_fails_ends_the_group() -> None:
    seen: list[int] = []

    def broken(data: bytes) -> None:
        seen.extend(map(int, data.split()))
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        supervise(["sh", "-c", "echo $$; sleep 100"], os.environ, 20, broken, discard, nothing)
    assert gone(seen[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_the_group(number: signal.Signals) -> None:
    program = """
import os, sys
from pte_trace.lab.supervise import supervise
def write(data):
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
supervise(["sh", "-c", "echo $$; sleep 100"], os.environ, 50, write, write, lambda: None)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(10) != 0
    end = time.monotonic() + 5
    while not gone(child) and time.monotonic() < end:
        time.sleep(0.01)
    assert gone(child)


class Trial:
    """A trial boot with a set result."""

    def __init__(self, result: bool) -> None:
        self.result = result
        self.calls = 0

    def __call__(self) -> bool:
        self.calls += 1
        return self.result


@pytest.fixture
def boot_id(tmp_path: Path) -> Path:
    path = tmp_path / "boot_id"
    path.write_text("one\n")
    return path


@pytest.mark.parametrize("result", [True, False])
def test_kvm_is_tried_once_a_boot(tmp_path: Path, boot_id: Path, result: bool) -> None:
    trial, device = Trial(result), tmp_path / "kvm"
    device.touch()
    for _ in range(2):
        assert kvm.usable(tmp_path / "cache", trial, device, boot_id) is result
    assert trial.calls == 1
    boot_id.write_text("two\n")
    kvm.usable(tmp_path / "cache", trial, device, boot_id)
    assert trial.calls == 2


def test_kvm_that_cannot_be_opened_is_not_tried(tmp_path: Path, boot_id: Path) -> None:
    trial = Trial(True)
    assert kvm.usable(tmp_path, trial, tmp_path / "none", boot_id) is False
    assert trial.calls == 0


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "no json"])
def test_a_spoilt_verdict_is_found_anew(tmp_path: Path, boot_id: Path, text: str) -> None:
    (tmp_path / "kvm.json").write_text(text)
    assert kvm.usable(tmp_path, Trial(True), boot_id, boot_id) is True


@pytest.mark.parametrize(
    ("missing", "what", "mend"),
    [
        ("qemu-system-x86_64", "QEMU is not installed", "sudo apt install qemu-system-x86"),
        ("virtme-run", "virtme-ng is not installed", f"{sys.executable} -m pip install virtme-ng"),
        ("busybox", "busybox is not installed", "sudo apt install busybox-static"),
    ],
)
def test_a_missing_tool_names_its_package(
    tmp_path: Path, missing: str, what: str, mend: str
) -> None:
    for name in ("qemu-system-x86_64", "virtme-run", "busybox", "file", "depmod"):
        if name != missing:
            (tmp_path / name).touch(mode=0o755)
    with pytest.raises(HostError, match=what) as caught:
        tools.check_boot_tools(str(tmp_path))
    assert caught.value.mend == mend


# Of every Debian, and what `make setup` was typed with.
THERE = {"dpkg", "make"}


def packages_of(error: HostError) -> set[str]:
    """The Debian packages that mend it."""
    command = re.fullmatch(r"sudo apt install (.+)", error.mend)
    return set(command[1].split()) if command else set()


def test_what_the_lab_names_make_setup_installs(tmp_path: Path) -> None:
    needed = set()
    for tool in (*tools._NEEDED_TO_BOOT, *tools._PROVIDERS):
        with pytest.raises(HostError) as caught:
            tools.locate(tool, str(tmp_path))
        needed |= packages_of(caught.value)

    def without_any(argv: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(argv, 0, "\n".join(argv[4:]), "")

    def without_libelf(argv: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(argv, int("gelf.h" in argv), "", "")

    for runner in (without_any, without_libelf):
        with pytest.raises(HostError) as caught:
            tools.check_build_tools(runner)
        needed |= packages_of(caught.value)
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    installed = re.search(r"^PACKAGES := ((?:.*\\\n)*.*)$", makefile, re.MULTILINE)
    assert installed
    assert {"file", "qemu-system-x86", "gcc", "libelf-dev"} <= needed
    assert needed - THERE <= set(installed[1].replace("\\", "").split())


def test_by_sudo_tools_are_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    called = {"PATH": "/home/somebody/bin:/usr/bin", "SUDO_UID": "1000"}
    beside = str(Path(sys.executable).parent)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    path = tools.search_path(called).split(":")
    assert path[0] == beside
    assert "/home/somebody/bin" not in path
    assert {"/usr/bin", "/usr/sbin"} <= set(path)
    assert "/home/somebody/bin" in tools.search_path({"PATH": called["PATH"]}).split(":")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "/home/somebody/bin" in tools.search_path(called).split(":")


def test_a_tool_speaks_english(tmp_path: Path) -> None:
    done = tools.run(["sh", "-c", "echo $LC_ALL; pwd; exit 3"], tmp_path)
    assert (done.returncode, done.stdout) == (3, f"C\n{tmp_path}\n")


def test_the_last_complaint_is_shown() -> None:
    assert tools.last_error("W: one\nE: two\nW: three\n") == "two"
    assert tools.last_error("one\n two\n\n") == "two"
    assert tools.last_error("") == ""
