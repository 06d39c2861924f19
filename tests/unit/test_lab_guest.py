"""What a guest is given, and the command line and script that come of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pte_trace.errors import UsageError
from pte_trace.lab import script, virtme
from pte_trace.lab.guest import Guest
from pte_trace.lab.kernels import Kernel

KERNEL = Kernel("sid", "7-amd64", Path("/c/boot/vmlinuz-7-amd64"), Path("/c"))


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"cpus": 0}, "0 CPUs"),
        ({"cpus": -1}, "-1 CPUs"),
        ({"cpus": 2, "icount": True}, "one CPU only"),
        ({"memory": "4"}, "4 is not a size"),
        ({"memory": "0G"}, "0G is not a size"),
        ({"memory": "4GB"}, "4GB is not a size"),
        ({"memory": "-4G"}, "-4G is not a size"),
        ({"nodes": 0}, "0 NUMA nodes"),
        ({"nodes": 3}, "2 CPUs cannot have 3 NUMA nodes"),
        ({"nodes": 2, "icount": True}, "1 CPUs cannot have 2 NUMA nodes"),
        ({"timeout": 0}, "within 0 s"),
        ({"timeout": float("nan")}, "within nan s"),
        ({"rwdirs": (Path("/nonexistent"),)}, "not a directory"),
        ({"forwards": ((0, 80),)}, "0 is not a port"),
        ({"forwards": ((80, 65536),)}, "65536 is not a port"),
    ],
)
def test_what_no_guest_can_have(wrong: dict[str, object], what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        Guest(**wrong)  # type: ignore[arg-type]
    assert caught.value.mend


def test_a_directory_that_virtme_cannot_name(tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    with pytest.raises(UsageError, match="cannot be given"):
        Guest(rwdirs=(tmp_path / "a=b",))


def test_icount_means_one_cpu() -> None:
    assert Guest().cpu_count == 2
    assert Guest(cpus=3).cpu_count == 3
    assert Guest(icount=True).cpu_count == 1
    assert Guest(icount=True, cpus=1).cpu_count == 1


def arguments(guest: Guest, *, kvm: bool = False) -> str:
    return " ".join(virtme.arguments(KERNEL, guest, Path("/tmp/s"), Path("/data/here"), kvm))


def test_arguments_of_an_emulated_guest() -> None:
    found = arguments(Guest(memory="512m"))
    assert "--kimg /c/boot/vmlinuz-7-amd64" in found
    assert "--cpus 2 --memory 512M" in found
    assert "--script-sh sh /tmp/s/command" in found
    assert "--rwdir /tmp/s" in found
    assert "--disable-kvm" in found
    assert "--kopt tsc=reliable" in found
    assert "--kopt PATH=/tmp/s/shims:" in found
    assert "icount" not in found
    assert "--net" not in found


def test_kvm_keeps_its_own_clock() -> None:
    found = arguments(Guest(), kvm=True)
    assert "--disable-kvm" not in found
    assert "tsc=" not in found


def test_icount_network_and_verbose(tmp_path: Path) -> None:
    found = arguments(Guest(icount=True, network=True, verbose=True, rwdirs=(tmp_path,)))
    assert "--cpus 1" in found
    assert "--qemu-opt=-icount --qemu-opt=shift=0,sleep=off" in found
    assert "--net user" in found
    assert "--show-boot-console" in found
    assert f"--rwdir {tmp_path}" in found


def test_options_for_the_kernel() -> None:
    assert "--kopt preempt=full" in arguments(Guest(options=("preempt=full",)))


def test_nodes_share_cpus_and_memory() -> None:
    assert "--numa" not in arguments(Guest())
    found = arguments(Guest(cpus=5, memory="1g", nodes=3))
    assert "--numa 341M,cpus=0-0 --numa 341M,cpus=1-2 --numa 342M,cpus=3-4" in found


def test_who_counts_instructions_counts_the_compilers() -> None:
    assert "--kopt pte_trace.desk=/tmp/s/desk" in arguments(Guest())
    assert "pte_trace.desk" not in arguments(Guest(icount=True))


def test_a_plugin_of_qemu_and_its_arguments() -> None:
    found = arguments(Guest(cpus=8, plugin="/p/count.so,to=/p/counts"))
    assert "--cpus 8" in found
    assert "--qemu-opt=-plugin --qemu-opt=/p/count.so,to=/p/counts" in found


@pytest.mark.parametrize(
    ("guest", "only"),
    [(Guest(), False), (Guest(icount=True), True), (Guest(plugin="/p/count.so"), True)],
)
def test_what_kvm_cannot_do(guest: Guest, only: bool) -> None:
    assert guest.only_emulated is only


def test_ports_are_forwarded_from_loopback_only() -> None:
    found = arguments(Guest(network=True, forwards=((9819, 9818), (9820, 80))))
    assert (
        "--qemu-opt=user,id=n0,hostfwd=tcp:127.0.0.1:9819-:9818,hostfwd=tcp:127.0.0.1:9820-:80"
        in found
    )
    assert "--kopt virtme.dhcp" in found
    assert "--net user" not in found


@pytest.mark.parametrize(
    ("cwd", "added"),
    [("/data/here", ["/data"]), ("/home/me", []), ("/", []), ("/run/user", []), ("/x", ["/x"])],
)
def test_the_working_directory_can_be_written_to(cwd: str, added: list[str]) -> None:
    assert [top for top in virtme.overlays(Path(cwd)) if top in ("/data", "/x", "/run")] == added


def run(shared: Path, *argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    script.write(shared, argv, cwd or shared, "sid")
    return subprocess.run(
        script.guest_command(shared), shell=True, capture_output=True, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["a b", "", "it's", 'say "x"', "$HOME", "`id`", "back\\slash", "new\nline", "*", "-n"],
        ["\udcff", "ü", ";", "&", "x=y"],
    ],
)
def test_arguments_survive(tmp_path: Path, arguments: list[str]) -> None:
    program = "import os, sys; sys.stdout.buffer.write(os.fsencode('\\0'.join(sys.argv[1:])))"
    done = run(tmp_path, sys.executable, "-c", program, *arguments)
    assert done.stdout.decode(errors="surrogateescape").split("\0") == arguments
    assert script.status(tmp_path) == 0


@pytest.mark.parametrize("status", [0, 7, 255])
def test_the_status_is_left_behind(tmp_path: Path, status: int) -> None:
    assert script.status(tmp_path) is None
    assert not script.started(tmp_path)
    run(tmp_path, "sh", "-c", f"exit {status}")
    assert script.status(tmp_path) == status
    assert script.started(tmp_path)


def test_a_builtin_of_the_shell_is_not_run(tmp_path: Path) -> None:
    run(tmp_path, "exit", "9")
    assert script.status(tmp_path) == 127


def test_the_command_runs_where_it_was_given(tmp_path: Path) -> None:
    there = tmp_path / "it's here"
    there.mkdir()
    done = run(tmp_path, "sh", "-c", 'pwd; echo "$PTE_TRACE_LAB"; cat', cwd=there)
    assert done.stdout.decode() == f"{there}\nsid\n"


def test_programs_beside_this_python_come_first(tmp_path: Path) -> None:
    done = run(tmp_path, "sh", "-c", "echo $PATH")
    assert done.stdout.decode().split(":")[0] == str(Path(sys.executable).parent)


def test_udev_is_asked_for_nothing_but_to_settle(tmp_path: Path) -> None:
    script.write(tmp_path, ["true"], tmp_path, "sid")
    real = tmp_path / "bin"
    real.mkdir()
    (real / "udevadm").write_text('#!/bin/sh\necho "$@"\n')
    (real / "udevadm").chmod(0o755)
    shims = tmp_path / script.SHIMS

    def asked(*arguments: str) -> bytes:
        path = f"{shims}:{real}:/usr/bin:/bin"
        return subprocess.run(
            [shims / "udevadm", *arguments], env={"PATH": path}, capture_output=True, check=True
        ).stdout

    assert asked("trigger", "--type=subsystems", "--action=add") == b""
    assert asked("settle", "--timeout=300") == b"settle --timeout=300\n"


def test_the_console_begins_with_the_fault(tmp_path: Path) -> None:
    assert script.console_end(tmp_path) == ""
    lines = [f"[ 1.{at}] line {at}\r" for at in range(40)]
    (tmp_path / script.CONSOLE).write_text("\n".join(lines))
    assert script.console_end(tmp_path, 2) == "[ 1.38] line 38\n[ 1.39] line 39"
    lines[20] = "[ 1.20] Kernel panic - not syncing: why"
    (tmp_path / script.CONSOLE).write_text("\n".join(lines))
    assert script.console_end(tmp_path, 2).startswith("[ 1.20] Kernel panic - not syncing: why\n")
    lines[15] = "[ 1.15] BUG: kernel NULL pointer dereference, address: 0000000000000000"
    (tmp_path / script.CONSOLE).write_text("\n".join(lines))
    assert script.console_end(tmp_path, 6).splitlines()[::5] == [lines[15], lines[20]]
