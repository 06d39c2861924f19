"""Hooks that the kernel does not run: which switch silences which, and who is told."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pte_trace.exporter import page
from pte_trace.exporter.groups import Groups
from pte_trace.exporter.reader import Reader
from pte_trace.exporter.switches import SWITCHES, Switch, Switches, not_run
from pte_trace.host.plan import How, make
from tests.builders import host, host_whose
from tests.unit.test_reader import Clock, Source

MIXED = make(host_whose("do_wp_page", fentry=False)).attachments
MIXED = {
    **MIXED,
    "handle_mm_fault": replace(MIXED["handle_mm_fault"], how=How.SESSION),
}


class Kernel:
    """A kernel's two switches, as files."""

    def __init__(self, directory: Path) -> None:
        self.paths = [directory / switch.path.name for switch in SWITCHES]
        self.switches = [
            Switch(path, switch.ways) for path, switch in zip(self.paths, SWITCHES, strict=True)
        ]
        self.set(1, 1)

    def set(self, *values: int) -> None:
        for path, value in zip(self.paths, values, strict=True):
            path.write_text(f"{value}\n")


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_each_switch_silences_what_it_is_for(kernel: Kernel) -> None:
    ftrace, kprobes = kernel.paths
    assert {each.how for each in MIXED.values()} == set(How)
    with closing(Switches(kernel.switches)) as switches:
        assert switches.silent(MIXED) == {}
        kernel.set(1, 0)
        assert switches.silent(MIXED) == {"do_wp_page": kprobes}
        kernel.set(0, 0)
        assert switches.silent(MIXED) == dict.fromkeys(MIXED, ftrace)
        kernel.set(1, 1)
        assert switches.silent(MIXED) == {}


def test_they_are_opened_once(kernel: Kernel) -> None:
    """While that is allowed."""
    with closing(Switches(kernel.switches)) as switches:
        kernel.set(0, 0)
        for path in kernel.paths:
            path.unlink()
        assert set(switches.silent(MIXED)) == set(MIXED)


def test_what_cannot_be_read_is_not_known_to_be_off(kernel: Kernel) -> None:
    kernel.set(0, 0)
    missing = [switch._replace(path=Path("/no/such/file")) for switch in kernel.switches]
    with closing(Switches(missing)) as switches:
        assert switches.silent(MIXED) == {}


@pytest.mark.parametrize(("number", "off"), [(errno.ENODEV, True), (errno.EPERM, False)])
def test_a_kernel_that_gave_ftrace_up(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, number: int, off: bool
) -> None:
    def refused(*_: int) -> bytes:
        raise OSError(number, os.strerror(number))

    with closing(Switches(kernel.switches)) as switches:
        monkeypatch.setattr(os, "pread", refused)
        assert set(switches.silent(MIXED)) == (set(MIXED) if off else set())


def test_a_hook_that_may_be_missing_is_no_alarm_on_the_page() -> None:
    with Reader(Source(), Groups(9), print) as reader:
        state = reader.state()
    hooks = dict(state.snapshot.hooks)
    del hooks["mmap_region"]
    shown = page.render(replace(state, snapshot=replace(state.snapshot, hooks=hooks)), "1")
    assert "<span>not attached</span>" in shown
    del hooks["do_wp_page"]
    shown = page.render(replace(state, snapshot=replace(state.snapshot, hooks=hooks)), "1")
    assert '<span class="no">not attached</span>' in shown


def test_the_log_and_the_page_tell(kernel: Kernel) -> None:
    clock, source, told = Clock(), Source(), list[str]()
    with (
        closing(Switches(kernel.switches)) as switches,
        Reader(source, Groups(9), told.append, clock, switches=switches) as reader,
    ):
        kernel.set(0, 1)
        for clock.time in (1.0, 2.0):
            state = reader.state()
        sentence = not_run(state.silent)
        assert told == [sentence]
        assert set(state.silent) == set(make(host()).attachments)
        assert sentence.endswith(f"{kernel.paths[0]} is 0.")
        shown = page.render(state, "1")
        assert sentence in shown
        assert "do_wp_page, which is not run" in shown
        kernel.set(1, 1)
        clock.time = 3.0
        assert reader.state().silent == {}
        assert told[1:] == ["The kernel runs all hooks again."]
        assert "not run" not in page.render(replace(state, silent={}), "1")
