"""The text handed to BCC: the definitions of a plan and of filters, then bpf/."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pte_trace.commands.options import make_filters
from pte_trace.effort import EVERYTHING, Effort
from pte_trace.filters import Filters
from pte_trace.host import plan
from pte_trace.host.behavior import Behavior
from pte_trace.host.facts import CAST, CAST_TYPES, LIFE_FUNCTIONS, TRACED_FUNCTIONS, HostFacts
from pte_trace.host.plan import ARGUMENTS, HOOKS, How
from pte_trace.kernel import kernel_types
from pte_trace.programs import program
from pte_trace.programs.program import SOURCES, Capacity
from tests.builders import PARAMETERS, host, host_whose, host_without
from tests.unit.test_kernel_types import kernel

CAN_BE_ATTACHED = sorted({name for hook in HOOKS for name in (hook.name, hook.stand_in) if name})


def text(
    facts: HostFacts | None = None,
    filters: Filters | None = None,
    capacity: Capacity | None = None,
    effort: Effort = EVERYTHING,
) -> str:
    made = plan.make(facts or host())
    assert made.refusal is None
    return program.text(made, filters or Filters(), capacity or Capacity(), effort, kernel())


def definitions(
    facts: HostFacts | None = None,
    filters: Filters | None = None,
    capacity: Capacity | None = None,
    effort: Effort = EVERYTHING,
) -> dict[str, str]:
    """What is defined before the first source."""
    before = text(facts, filters, capacity, effort).split('#line 1 "bpf/')[0]
    return dict(re.findall(r"^#define (\w+) (.*)$", before, re.MULTILINE))


def words(comm: bytes) -> tuple[str, str]:
    """A comm as two 64-bit words in memory's order."""
    padded = comm.ljust(16, b"\0")
    return tuple(f"{int.from_bytes(half, 'little')}ULL" for half in (padded[:8], padded[8:]))  # type: ignore[return-value]


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_is_there_once(name: str) -> None:
    assert program.source(name) in text()
    assert text().count(f'#line 1 "bpf/{name}"\n') == 1


def test_every_file_of_bpf_is_a_source() -> None:
    files = {each.name for each in program.source_directory().iterdir()}
    assert {name for name in files if name.endswith((".h", ".c"))} == set(SOURCES)


def test_sources_come_in_order_after_the_kernels_types() -> None:
    types = kernel_types.declarations(kernel())
    assert text().startswith(f"#include <linux/types.h>\n{types}\n")
    assert tuple(re.findall(r'^#line 1 "bpf/(.*)"$', text(), re.MULTILINE)) == SOURCES


def test_every_function_has_its_parameters() -> None:
    found = definitions()
    for function, parameters in PARAMETERS.items():
        assert found[f"PARAMETERS_{function}"] == ", ".join(f"u64 {name}" for name in parameters)
        for position, name in enumerate(parameters):
            assert found[f"AT_{function}_{name}"] == str(position)


def test_every_function_is_defined_once() -> None:
    """Two hooks share change_protection where change_pte_range is not to be had."""
    for facts in (host(), host_without("change_pte_range")):
        names = re.findall(r"^#define (\w+)", text(facts).split("#line")[0], re.MULTILINE)
        assert len(names) == len(set(names))


def test_where_all_is_a_trampoline_nothing_is_made_for_kprobes() -> None:
    found = definitions()
    assert found["PROBES"] == found["SESSIONS"] == "0"
    assert found["DIRECT"] == "1"
    assert found["HAVE_CURRENT_TASK_BTF"] == "1"
    for function in TRACED_FUNCTIONS:
        assert found[f"TRACED_{function}"] == found[f"FENTRY_{function}"] == "1"
        assert found[f"SESSION_{function}"] == "0"


def test_one_kprobe_is_told_and_typed_pointers_are_off() -> None:
    facts = replace(host_whose("do_wp_page", fentry=False), casts=False)
    found = definitions(facts)
    assert (found["PROBES"], found["SESSIONS"]) == ("1", "0")
    assert found["DIRECT"] == found["CASTS"] == "0"
    assert "HAVE_CURRENT_TASK_BTF" not in found
    assert found["FENTRY_do_wp_page"] == "0"
    assert found["HOW_do_wp_page"] == "KPROBE"
    assert found["FENTRY_handle_mm_fault"] == "1"
    assert not {name for name in found if name.startswith("ID_")}


def test_sessions_and_casts_come_with_the_kernels_names_for_them() -> None:
    found = definitions(host(preemptible=True))
    assert (found["PROBES"], found["SESSIONS"], found["CASTS"]) == ("1", "1", "1")
    assert found["SESSION_handle_mm_fault"] == "1"
    assert found["HOW_handle_mm_fault"] == "SESSION"
    types = kernel()
    functions = (CAST, "bpf_session_is_return", "bpf_session_cookie")
    ids = {name: types.function_id(name) for name in functions}
    ids |= {name: types.struct_id(name) for name in CAST_TYPES}
    assert None not in ids.values()
    named = {name.removeprefix("ID_"): value for name, value in found.items() if name[:3] == "ID_"}
    assert named == {name: str(number) for name, number in ids.items()}


def test_hooks_have_numbers_of_their_own() -> None:
    found = definitions()
    assert len({found[f"HOOK_{function}"] for function in TRACED_FUNCTIONS}) == len(
        TRACED_FUNCTIONS
    )


@pytest.mark.parametrize("function", ["change_pte_range", "mmap_region"])
def test_of_a_function_that_is_not_traced_only_that_is_told(function: str) -> None:
    found = definitions(host_without(function))
    assert {name: value for name, value in found.items() if name.endswith(function)} == {
        f"TRACED_{function}": "0"
    }


@pytest.mark.parametrize("function", CAN_BE_ATTACHED)
def test_every_function_that_may_be_attached_has_its_programs(function: str) -> None:
    source = program.source("attach.c")
    if function in {hook.name for hook in HOOKS if hook.entered}:
        assert f"KFUNC_PROBE({function}, PARAMETERS_{function})" in source
        assert f"int enter_{function}(struct pt_regs *ctx)" in source
        return
    assert f"KRETFUNC_PROBE({function}, PARAMETERS_{function}, u64 result)" in source
    if function == "change_pte_range":  # where a trampoline can be had only
        return
    assert f"static int enters_{function}(struct pt_regs *ctx)" in source
    assert f"static int leaves_{function}(struct pt_regs *ctx)" in source
    made = rf"PROGRAMS\((HOW_{function}, )?{function}\)"
    assert re.search(made, source)


def test_programs_read_only_arguments_that_the_rule_asks_for() -> None:
    """But for what some kernels tell alone, which the programs ask for."""
    told = re.sub(r"^#ifdef AT_.*$", "", program.source("attach.c"), flags=re.MULTILINE)
    for function, argument in re.findall(rf"AT_({'|'.join(CAN_BE_ATTACHED)})_(\w+)", told):
        assert argument in ARGUMENTS[function]


def test_maps_have_the_room_asked_for() -> None:
    found = definitions(capacity=Capacity(1, 2, 3, 4, 5))
    maps = ("RECORDS", "REMAINDERS", "FILES", "BIRTHS", "THREADS", "TIMINGS", "PLACES")
    assert [found[f"MAX_{name}"] for name in maps] == ["1", "2", "3", "4", "5", "1", "1"]


@pytest.mark.parametrize(
    ("filters", "defined"),
    [
        (Filters(), set()),
        (Filters(pids=(7,)), {"FILTER_TGID"}),
        (Filters(children=True), {"FILTER_TGID", "FOLLOW_CHILDREN"}),
        (Filters(comm="java"), {"FILTER_COMM_LOW", "FILTER_COMM_HIGH"}),
        (Filters(cgroup=Path("/sys/fs/cgroup/a")), {"FILTER_CGROUP"}),
        (Filters(unit="a.service"), {"FILTER_CGROUP", "FILTER_CGROUP_NAME"}),
        (Filters(container="0123456789ab"), {"FILTER_CGROUP", "FILTER_CGROUP_NAME"}),
        (
            Filters(pids=(7,), comm="java", cgroup=Path("/sys/fs/cgroup/a")),
            {"FILTER_TGID", "FILTER_COMM_LOW", "FILTER_COMM_HIGH", "FILTER_CGROUP"},
        ),
    ],
)
def test_only_the_filters_given_are_compiled(filters: Filters, defined: set[str]) -> None:
    found = definitions(filters=filters)
    assert {name for name in found if name.startswith(("FILTER_", "FOLLOW_"))} == defined


@pytest.mark.parametrize("known", [True, False, None])
def test_processes_tell_of_themselves_by_kprobes_where_those_are_needed(known: bool | None) -> None:
    found = definitions(host(preemptible=True, life_probes=known))
    assert found["LIFE_PROBES"] == str(int(known is True))
    source = program.source("attach.c")
    for function in LIFE_FUNCTIONS:
        assert f"int enter_{function}(struct pt_regs *ctx)" in source


@pytest.mark.parametrize("comm", ["a", "java", "12345678", "GC Thread#0", "0123456789abcde", "é"])
def test_a_comm_is_compared_as_two_words(comm: str) -> None:
    found = definitions(filters=Filters(comm=comm))
    assert (found["FILTER_COMM_LOW"], found["FILTER_COMM_HIGH"]) == words(comm.encode())


def test_a_comm_cut_within_a_letter_is_what_the_kernel_keeps() -> None:
    """The kernel keeps 15 bytes, also where that is half a letter."""
    found = definitions(filters=make_filters((), "é" * 10, None))
    kept = ("é" * 10).encode()[:15]
    assert (found["FILTER_COMM_LOW"], found["FILTER_COMM_HIGH"]) == words(kept)


def test_what_is_in_a_filter_does_not_get_into_the_text() -> None:
    odd = '"; #error /* ünï'[:15]
    assert odd not in text(filters=Filters(comm=odd, unit=odd, cgroup=Path(os.sep + odd)))


@pytest.mark.parametrize("how", list(How))
def test_the_same_plan_gives_the_same_text(how: How) -> None:
    made = plan.make(host(preemptible=True), (how, How.KPROBE))
    first, second = (
        program.text(made, Filters(), Capacity(), EVERYTHING, kernel()) for _ in range(2)
    )
    assert first == second


def test_how_far_to_look_is_told() -> None:
    assert "MAX_TABLES" not in definitions()
    assert definitions()["INSPECT"] == definitions()["COSTS"] == "1"
    capped = definitions(effort=Effort(inspect=7, costs=100))
    assert (capped["INSPECT"], capped["MAX_TABLES"], capped["COSTS"]) == ("1", "7ULL", "100")
    assert definitions()["STACKS"] == "0"
    assert definitions(effort=Effort(stacks=1))["STACKS"] == "1"
    assert definitions(effort=Effort(stacks=100))["STACKS"] == "100"
    nothing = definitions(effort=Effort(inspect=0, costs=0))
    assert (nothing["INSPECT"], nothing["COSTS"]) == ("0", "0")


@pytest.mark.parametrize(
    ("facts", "name", "value"),
    [
        (host(five_level_page_tables=True), "PAGE_TABLE_LEVELS", "5"),
        (host(five_level_page_tables=None), "PAGE_TABLE_LEVELS", "4"),
        (host(behavior=Behavior(optimization=False)), "OPTIMIZED", "0"),
        (host(behavior=Behavior(optimization=None)), "OPTIMIZED", "1"),
        (host(behavior=Behavior(clean_pages=False)), "CLEAN_PAGES_REFUSED", "1"),
        (host(behavior=Behavior(clean_pages=None)), "CLEAN_PAGES_REFUSED", "0"),
        (host(behavior=Behavior(soft_dirty=None)), "SOFT_DIRTY", "0"),
        (host(), "SOFT_DIRTY", "1"),
    ],
)
def test_what_mprotect_does_here_is_told(facts: HostFacts, name: str, value: str) -> None:
    assert definitions(facts)[name] == value
