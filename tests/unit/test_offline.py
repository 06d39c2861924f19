"""What a kernel's files tell of it, without running it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pte_trace.commands.doctor import doctor
from pte_trace.errors import HostError
from pte_trace.host import offline, plan
from pte_trace.host.facts import TRACED_FUNCTIONS
from pte_trace.host.offline import Files
from pte_trace.host.plan import How
from pte_trace.kernel.btf import BTF
from tests.btf_writer import kernel_btf
from tests.builders import PARAMETERS

MANY = [f"ffffffff81000000 T symbol_{number}" for number in range(2000)]
NEEDED = ("__x64_sys_bpf", "register_ftrace_direct", "register_kprobe", "bpf_session_is_return")
BLOB = kernel_btf(functions={**PARAMETERS, "register_ftrace_direct": (), "register_kprobe": ()})
TYPES = BTF(BLOB)


def files(
    *missing: str, release: str | None = "6.1.0-test", config: str | None = None, version: str = ""
) -> Files:
    symbols = frozenset((*TRACED_FUNCTIONS, *NEEDED, "preempt_schedule")) - set(missing)
    return Files(TYPES, symbols, config, release, version or None)


def kernel(directory: Path, release: str = "6.1.0-test", **beside: str) -> Path:
    """A copy of types, and what is *beside* it."""
    path = directory / f"vmlinux-{release}"
    path.write_bytes(BLOB)
    for name, text in beside.items():
        (directory / f"{name.replace('_', '.')}-{release}").write_text(text)
    return path


def symbol_list(*names: str) -> str:
    return "\n".join([*MANY, *(f"ffffffff81000000 T {name}" for name in names)])


def test_what_is_beside_a_kernel_is_read_with_it(tmp_path: Path) -> None:
    path = kernel(tmp_path, System_map=symbol_list("do_wp_page"), config="CONFIG_PREEMPT_NONE=y\n")
    found = offline.read(path)
    assert found.release == "6.1.0-test"
    assert found.symbols is not None
    assert "do_wp_page" in found.symbols
    assert offline.facts(found).preemptible is False


def test_a_list_of_one_line_is_no_list_of_symbols(tmp_path: Path) -> None:
    path = kernel(tmp_path, System_map="ffffffffffffffff B The real System.map is elsewhere\n")
    assert offline.read(path).symbols is None


def test_a_function_that_is_no_symbol_cannot_be_hooked() -> None:
    facts = offline.facts(files("do_wp_page"))
    assert facts.functions["do_wp_page"].fentry is False
    assert facts.functions["do_wp_page"].kprobe is False
    assert facts.functions["handle_mm_fault"].kprobe is True
    refusal = plan.make(facts).refusal
    assert refusal is not None
    assert "do_wp_page" in refusal.why


@pytest.mark.parametrize(
    ("config", "version", "missing", "preemptible"),
    [
        ("CONFIG_PREEMPT_NONE=y\n", "", (), False),
        ("CONFIG_PREEMPT_VOLUNTARY=y\nCONFIG_PREEMPT_DYNAMIC=y\n", "", (), False),
        ("CONFIG_PREEMPT_LAZY=y\n", "", (), True),
        ("CONFIG_PREEMPT_RT=y\n", "", (), True),
        (None, " SMP Debian 5.10", (), False),
        (None, " SMP PREEMPT Debian", (), True),
        (None, " SMP PREEMPT_DYNAMIC Debian 6.1", (), None),
        (None, "", ("preempt_schedule",), False),
    ],
)
def test_whether_it_may_be_preempted(
    config: str | None, version: str, missing: tuple[str, ...], preemptible: bool | None
) -> None:
    found = offline.facts(files(*missing, config=config, version=version))
    assert found.preemptible is preemptible


@pytest.mark.parametrize(
    ("release", "optimized", "huge"),
    [("5.10.0", False, False), ("6.0.1", True, False), ("6.12.0", True, True), (None, None, None)],
)
def test_what_mprotect_does_is_told_by_the_release(
    release: str | None, optimized: bool | None, huge: bool | None
) -> None:
    behavior = offline.facts(files(release=release)).behavior
    assert (behavior.optimization, behavior.huge_pages) == (optimized, huge)


def test_more_parameters_than_registers_want_a_newer_kernel() -> None:
    of_6 = offline.facts(files(release="6.5.0")).functions["change_pte_range"]
    of_7 = offline.facts(files(release="6.6.0")).functions["change_pte_range"]
    assert of_6.parameters is not None
    assert len(of_6.parameters) > 6
    assert (of_6.fentry, of_7.fentry) == (False, True)


def test_without_ftrace_there_are_probes_only() -> None:
    planned = plan.make(offline.facts(files("register_ftrace_direct")))
    assert {attachment.how for attachment in planned.attachments.values()} <= {
        How.KPROBE,
        How.SESSION,
    }


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "shorter than its header"),
        (b"MZ" * 100, "does not begin as BTF"),
        (b"\x7fELF" + bytes(100), "damaged"),
    ],
)
def test_what_is_no_kernel_is_one_sentence(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(data)
    with pytest.raises(HostError, match=said):
        offline.read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"none cannot be read: No such file"):
        offline.read(tmp_path / "none")


def test_the_doctor_says_that_nothing_was_tried(tmp_path: Path) -> None:
    path = kernel(tmp_path, config="CONFIG_PREEMPT_NONE=y\n")
    said = CliRunner().invoke(doctor, ["--kernel", str(path)], catch_exceptions=False).output
    assert "as its files tell; none was tried" in said
    written = CliRunner().invoke(doctor, ["--json", "--kernel", str(path)]).output
    assert json.loads(written)["kernel"] == {
        "release": "6.1.0-test",
        "optimization": True,
        "file": str(path),
    }
