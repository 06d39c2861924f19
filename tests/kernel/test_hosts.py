"""Hosts that cannot, or not all: each is told by the doctor first, and then in the same words."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pte_trace.host.plan import HOOKS
from pte_trace.kernel.rights import NOBODY
from tests.kernel.conftest import LITTLE
from tests.kernel.host import Host
from tests.soak.exporter import exporter

KPROBES = Path("/sys/kernel/debug/kprobes/enabled")
FTRACE = Path("/proc/sys/kernel/ftrace_enabled")
LOCKDOWN = Path("/sys/kernel/security/lockdown")

pytestmark = pytest.mark.once


def with_mounts(*commands: str) -> tuple[str, ...]:
    """In a mount namespace in which *commands* were run."""
    return ("unshare", "--mount", "sh", "-c", "; ".join(("set -e", *commands, 'exec "$@"')), "sh")


NO_RIGHTS = ("--inh-caps=-all", "--bounding-set=-all")

REFUSED = {
    "no BTF": (with_mounts("mount -t tmpfs none /sys/kernel/btf"), "without CONFIG_DEBUG_INFO_BTF"),
    "another BTF": (
        with_mounts("mount --bind /dev/null /sys/kernel/btf/vmlinux"),
        "it is shorter than its header",
    ),
    "root without rights": (("setpriv", *NO_RIGHTS), "needs the right to load BPF programs"),
    "a user": (
        ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
        "needs the right to load BPF programs",
    ),
    "root of a user namespace": (("unshare", "--map-root-user"), "even to root"),
}


@pytest.mark.parametrize(("words", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_a_host_that_cannot_be_traced_says_what_the_doctor_says(
    words: tuple[str, ...], why: str
) -> None:
    host = Host(words)
    refusal = host.doctor()["refusal"]
    assert why in refusal["why"]
    assert host.is_refused(refusal)


def test_in_a_pid_namespace_the_machine_can_be_traced_but_no_process() -> None:
    host = Host(("unshare", "--pid", "--fork", "--mount-proc"))
    found = host.doctor()
    assert found["refusal"] is None
    assert "neither -p nor a command" in found["refusal_by_process"]["why"]
    assert host.is_refused(found["refusal_by_process"])

    code = "import mmap, time\nwhile True: m = mmap.mmap(-1, 4096); m[0] = 1; time.sleep(0.2)"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            done = host.run("top", "-n", 1, "--format", "json")
        finally:
            process.kill()
    assert done.status == 0, done.stderr
    # It is called as the kernel calls it, which is not how the namespace would.
    assert process.pid in {row["pid"] for row in json.loads(done.stdout)["processes"]}


def test_neither_tracefs_nor_debugfs_nor_addresses_are_needed() -> None:
    setting = Path("/proc/sys/kernel/kptr_restrict")
    before = setting.read_text()
    setting.write_text("2")
    try:
        host = Host(with_mounts("umount -R /sys/kernel/debug", "umount -R /sys/kernel/tracing"))
        document = host.traced()
    finally:
        setting.write_text(before)
    # Whether this kernel may be preempted is told in debugfs; unknown, probes come first.
    hows = {name: hook["how"] for name, hook in document["hooks"].items()}
    assert hows.pop("do_wp_page") == "fentry"
    assert "fentry" not in hows.values()


@pytest.fixture
def without_kprobes() -> Iterator[None]:
    KPROBES.write_text("0")
    yield
    KPROBES.write_text("1")


@pytest.mark.usefixtures("without_kprobes")
def test_kprobes_that_are_switched_off_are_not_used() -> None:
    found = Host().doctor()
    assert found["facts"]["kprobes_armed"] is False
    assert {function["kprobe"] for function in found["functions"].values()} == {False}
    assert "kprobe" not in {hook["how"] for hook in found["hooks"].values()}


def test_serve_tells_when_its_kprobes_are_switched_off_meanwhile() -> None:
    hooks = ", ".join(hook.name for hook in HOOKS)
    says = (
        f"pte-trace: The kernel does not run the hooks {hooks}: {KPROBES} is 0.\n"
        "pte-trace: The kernel runs all hooks again.\n"
    )
    attached = []
    with exporter("--attach", "kprobe", *LITTLE, says=says) as serve:
        for switch in ("1", "0", "1"):
            KPROBES.write_text(switch)
            serve.scrape()
            attached.append(set(serve.by("hook_attached", "hook").values()))
    assert attached == [{1}, {0}, {1}]


@pytest.mark.lasting
def test_a_kernel_that_is_locked_down_or_traces_no_functions() -> None:
    """A lockdown holds until the kernel is booted again."""
    LOCKDOWN.write_text("integrity")
    Host().traced()

    FTRACE.write_text("0")
    refusal = Host().doctor()["refusal"]
    assert "kernel.ftrace_enabled=0" in refusal["why"]
    assert Host().is_refused(refusal)
    FTRACE.write_text("1")

    LOCKDOWN.write_text("confidentiality")
    refusal = Host().doctor()["refusal"]
    assert "lockdown (confidentiality)" in refusal["why"]
    assert Host().is_refused(refusal)
    # Where securityfs does not tell, a trial does.
    hidden = Host(with_mounts("umount /sys/kernel/security")).doctor()
    assert hidden["facts"]["lockdown"] is None
    assert "does not let BPF programs read kernel memory" in hidden["refusal"]["why"]
