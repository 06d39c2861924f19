"""What is looked at on this host: what may not be looked at is unknown, not missing."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pte_trace.host import facts, plan
from pte_trace.kernel import trial
from pte_trace.kernel.btf import BTF
from tests.btf_writer import BTFWriter, kernel_btf


def refuse(path: Path, **_: Any) -> None:
    raise PermissionError(13, "Permission denied", str(path))


@pytest.mark.parametrize(
    ("known", "answer"),
    [
        ([], False),
        ([False, False], False),
        ([False, True], True),
        ([None, True], True),
        ([None, False], None),
    ],
)
def test_one_that_is_there_is_enough_and_one_unknown_leaves_it_open(
    known: list[bool | None], answer: bool | None
) -> None:
    assert facts._any(known) is answer


def test_a_file_is_there_or_not(tmp_path: Path) -> None:
    assert facts._exists(tmp_path) is True
    assert facts._exists(tmp_path / "none") is False
    (tmp_path / "file").touch()
    assert facts._exists(tmp_path / "file" / "below") is False


def test_collecting_for_a_user_who_may_not_look_at_tracefs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "stat", refuse)
    found = facts.collect(None, "Permission denied", (None, None))
    assert found.tracefs is None
    assert found.kprobes is None


@pytest.mark.parametrize(
    ("version", "chosen", "preemptible"),
    [
        ("#1 SMP Debian 5.10", None, False),
        ("#1 SMP PREEMPT Debian", None, True),
        ("#1 SMP PREEMPT_RT Debian", None, True),
        ("#1 SMP PREEMPT_DYNAMIC Debian 6.1", "none (voluntary) full \n", False),
        ("#1 SMP PREEMPT_DYNAMIC Debian 6.1", "(none) voluntary full \n", False),
        ("#1 SMP PREEMPT_DYNAMIC Debian 7.2", "full (lazy) \n", True),
        ("#1 SMP PREEMPT_DYNAMIC Debian 7.2", "garbage", None),
        ("#1 SMP PREEMPT_DYNAMIC Debian 7.2", None, None),
    ],
)
def test_whether_the_kernel_may_be_preempted_is_read_where_it_is_told(
    version: str,
    chosen: str | None,
    preemptible: bool | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = tmp_path / "preempt"
    if chosen is not None:
        place.write_text(chosen)
    monkeypatch.setattr(facts, "_PREEMPTION", place)
    assert facts._preemptible(version) is preemptible


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (b"Name:\tpython3\nCapEff:\t000000c000000000\n", {"CAP_PERFMON", "CAP_BPF"}),
        (b"Name:\tCapEff:\tffffffff\nCapEff:\t0000000000000000\n", set()),
        (b"Name:\t\xff\xfe\nCapEff:\t0000000000200000\n", {"CAP_SYS_ADMIN"}),
        (b"Name:\tCapEff:\n", None),
        (b"CapEff:\tmany\n", None),
        (b"", None),
    ],
)
def test_capabilities_are_told_whatever_the_process_is_called(
    status: bytes, found: set[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "_STATUS", tmp_path / "status")
    (tmp_path / "status").write_bytes(status)
    assert facts._capabilities() == found


@pytest.mark.parametrize(
    ("text", "found"), [("0\n", False), ("1\n", True), ("", None), ("?", None)]
)
def test_a_switch_is_on_or_off_or_unknown(text: str, found: bool | None, tmp_path: Path) -> None:
    (tmp_path / "switch").write_text(text)
    assert facts._switch(tmp_path / "switch") is found
    assert facts._switch(tmp_path / "gone") is None


def test_types_that_contradict_themselves_are_a_fact_not_an_error() -> None:
    write = BTFWriter()
    prototype = write.integer("int", 4)
    write.function_of("do_wp_page", prototype)
    found = facts.collect(BTF(write.blob()), None, ("0.26.0", None))
    assert found.btf is False
    assert found.btf_problem == "the function do_wp_page has no prototype"
    refusal = plan.make(replace(found, bpf_errno=None, machine="x86_64", lockdown=None)).refusal
    assert refusal is not None
    assert refusal.why.count("cannot be read") == 1
    assert refusal.why.endswith("cannot be read: the function do_wp_page has no prototype.")


def test_where_ftrace_is_off_nothing_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tried(_: object) -> bool:
        raise AssertionError

    (tmp_path / "ftrace_enabled").write_text("0\n")
    monkeypatch.setattr(facts, "_FTRACE_ENABLED", tmp_path / "ftrace_enabled")
    monkeypatch.setattr(trial, "kprobe", tried)
    monkeypatch.setattr(trial, "fentry", tried)
    found = facts.collect(BTF(kernel_btf()), None, (None, None))
    assert found.ftrace_enabled is False
    assert {(each.fentry, each.kprobe) for each in found.functions.values()} == {(False, False)}


@pytest.mark.parametrize(("number", "found"), [(errno.ENODEV, False), (errno.ENOENT, None)])
def test_ftrace_that_the_kernel_gave_up_is_off(
    number: int, found: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise OSError(number, "")

    monkeypatch.setattr(Path, "read_text", fail)
    assert facts._ftrace_enabled() is found


def test_kprobes_that_are_switched_off_are_not_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "enabled").write_text("0\n")
    monkeypatch.setattr(facts, "_KPROBES_ARMED", tmp_path / "enabled")
    monkeypatch.setattr(trial, "kprobe", lambda _: True)
    found = facts.collect(None, "gone", (None, None))
    assert found.kprobes_armed is False
    assert {function.kprobe for function in found.functions.values()} == {False}


@pytest.mark.parametrize(
    ("lines", "versions"),
    [
        (b"0::/user.slice\n", "2"),
        (b"0::/a\xff\n", "2"),
        (b"12:memory:/user.slice\n1:name=systemd:/\n0::/user.slice\n", "both"),
        (b"12:memory:/user.slice\n1:name=systemd:/\n", "1"),
        (b"", None),
        (None, None),
    ],
)
def test_which_cgroups_there_are(
    lines: bytes | None, versions: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "_CGROUPS", tmp_path / "cgroup")
    if lines is not None:
        (tmp_path / "cgroup").write_bytes(lines)
    assert facts._cgroups() == versions
