"""The rule from facts to a plan: a capable host, and what changes when one fact is taken away."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pte_trace.host.facts import CAPABILITIES, TRACED_FUNCTIONS, FunctionFacts, HostFacts
from pte_trace.host.plan import (
    ARGUMENTS,
    HOOKS,
    Hook,
    How,
    capabilities,
    capabilities_to_read,
    degraded,
    make,
)
from tests.builders import PARAMETERS, host, host_whose, host_without

ROOT = frozenset(CAPABILITIES)
NOBODY: frozenset[str] = frozenset()
NO_STAND_IN = sorted(set(TRACED_FUNCTIONS) - {hook.name for hook in HOOKS if hook.stand_in})
BOTH = (How.FENTRY, How.KPROBE)
MAY_BE_PREEMPTED = pytest.mark.parametrize("preemptible", [True, None])


def hows(facts: HostFacts) -> dict[str, How]:
    return {name: each.how for name, each in make(facts).attachments.items()}


@MAY_BE_PREEMPTED
def test_a_kernel_that_may_be_preempted_is_traced_with_sessions(preemptible: bool | None) -> None:
    """But where the lock of a page table is held nothing is preempted, and for the entry alone a
    kprobe is enough.
    """
    assert hows(host(preemptible=preemptible)) == {
        "change_pte_range": How.SESSION,
        "change_protection": How.SESSION,
        "do_wp_page": How.FENTRY,
        "handle_mm_fault": How.SESSION,
        "do_huge_pmd_wp_page": How.KPROBE,
        "pmdp_set_access_flags": How.FENTRY,
        "__split_huge_pmd": How.KPROBE,
        "hugetlb_fault": How.KPROBE,
        "handle_userfault": How.KPROBE,
        "numa_migrate_check": How.FENTRY,
        "migrate_misplaced_folio_prepare": How.FENTRY,
        "copy_page_range": How.KPROBE,
        "mmap_region": How.SESSION,
    }


@pytest.mark.parametrize("realtime", [True, None])
def test_on_a_real_time_kernel_what_holds_a_lock_is_preempted_too(realtime: bool | None) -> None:
    found = hows(host(preemptible=True, realtime=realtime))
    one_end = {hook.name for hook in HOOKS if hook.locked or hook.entered}
    assert {found.pop(name) for name in one_end} == {How.KPROBE}
    assert set(found.values()) == {How.SESSION}


@MAY_BE_PREEMPTED
@pytest.mark.parametrize("unbounded", [False, None])
def test_sessions_that_have_room_for_few_calls_are_kprobes(
    preemptible: bool | None, unbounded: bool | None
) -> None:
    found = hows(host(preemptible=preemptible, sessions_unbounded=unbounded))
    assert {found.pop(hook.name) for hook in HOOKS if hook.locked} == {How.FENTRY}
    assert set(found.values()) == {How.KPROBE}


@pytest.mark.parametrize("session", [False, None])
def test_a_function_that_takes_no_session_gets_kprobes(session: bool | None) -> None:
    facts = replace(host_whose("handle_mm_fault", session=session), preemptible=True)
    found = hows(facts)
    assert found["handle_mm_fault"] is How.KPROBE
    assert found["change_protection"] is How.SESSION


def test_where_do_wp_page_takes_no_trampoline_it_gets_a_kprobe() -> None:
    facts = replace(host_whose("do_wp_page", fentry=False), preemptible=True)
    assert hows(facts)["do_wp_page"] is How.KPROBE


@MAY_BE_PREEMPTED
def test_probes_on_change_pte_range_cost_more_than_to_look_from_the_top(
    preemptible: bool | None,
) -> None:
    hook = make(host(preemptible=preemptible)).attachments["change_pte_range"]
    assert hook.function == "change_protection"
    assert hook.degraded is not None


def test_a_kernel_that_is_not_preempted_has_no_sessions() -> None:
    """They are not tried there: trampolines cost less."""
    found = hows(host_whose("handle_mm_fault", fentry=False))
    assert found.pop("handle_mm_fault") is How.KPROBE
    assert set(found.values()) == {How.FENTRY}


def test_trampolines_can_be_asked_for_on_a_kernel_that_may_be_preempted() -> None:
    plan = make(host(preemptible=True), (How.FENTRY,))
    assert {each.how for each in plan.attachments.values()} == {How.FENTRY}


def test_a_capable_host_has_every_hook_by_trampoline() -> None:
    plan = make(host())
    assert plan.refusal is None
    assert list(plan.attachments) == [hook.name for hook in HOOKS]
    for name, attachment in plan.attachments.items():
        assert attachment.hook == attachment.function == name
        assert attachment.how is How.FENTRY
        assert attachment.parameters == PARAMETERS[name]
        assert attachment.degraded is None


def test_where_all_hooks_are_trampolines_the_programs_follow_typed_pointers() -> None:
    plan = make(host())
    assert plan.follow_btf_pointers
    assert plan.current_task_btf


@pytest.mark.parametrize("known", [False, None])
def test_without_a_typed_current_task_it_is_read_with_the_helper(known: bool | None) -> None:
    plan = make(host(current_task_btf=known))
    assert plan.follow_btf_pointers
    assert not plan.current_task_btf


@pytest.mark.parametrize("function", NO_STAND_IN)
@pytest.mark.parametrize("fentry", [False, None])
def test_without_a_trampoline_a_function_gets_a_kprobe(function: str, fentry: bool | None) -> None:
    plan = make(host_whose(function, fentry=fentry))
    assert plan.refusal is None
    assert plan.attachments[function].how is How.KPROBE
    assert plan.attachments[function].degraded is None
    others = set(plan.attachments) - {function}
    assert {plan.attachments[other].how for other in others} == {How.FENTRY}


@pytest.mark.parametrize("function", NO_STAND_IN)
@pytest.mark.parametrize("casts", [False, None])
def test_one_probe_is_enough_for_all_programs_to_read_with_the_helper(
    function: str, casts: bool | None
) -> None:
    plan = make(replace(host_whose(function, fentry=False), casts=casts))
    assert not plan.follow_btf_pointers
    assert not plan.current_task_btf
    assert not plan.casts


def test_where_probes_may_cast_they_follow_typed_pointers_too() -> None:
    plan = make(host(preemptible=True))
    assert plan.follow_btf_pointers
    assert plan.current_task_btf
    assert plan.casts
    assert not make(host(casts=False)).casts


@pytest.mark.parametrize("kprobe", [False, None])
def test_without_a_kprobe_a_trampoline_is_enough(kprobe: bool | None) -> None:
    plan = make(host_whose("do_wp_page", kprobe=kprobe))
    assert plan.attachments["do_wp_page"].how is How.FENTRY


@pytest.mark.parametrize(
    "facts",
    [
        host_without("change_pte_range"),
        host_whose("change_pte_range", fentry=False, kprobe=False),
        host_whose("change_pte_range", fentry=None, kprobe=None),
        host_whose("change_pte_range", parameters=("tlb", "vma")),
        host(
            functions={
                name: facts
                for name, facts in host().functions.items()
                if name != "change_pte_range"
            }
        ),
    ],
    ids=["inlined", "no way to attach", "not permitted", "no cp_flags", "nothing known"],
)
def test_where_change_pte_range_cannot_be_hooked_its_caller_stands_in(facts: HostFacts) -> None:
    plan = make(facts)
    assert plan.refusal is None
    hook = plan.attachments["change_pte_range"]
    assert hook.function == "change_protection"
    assert hook.how is How.FENTRY
    assert hook.parameters == PARAMETERS["change_protection"]
    assert hook.degraded == (
        "change_pte_range cannot have a trampoline here (inlined, more parameters than that takes,"
        " or a kernel that may be preempted); using its caller change_protection, and page tables"
        " are looked for from the top."
    )
    assert plan.attachments["change_protection"].degraded is None


def test_a_function_that_serves_two_hooks_is_attached_once() -> None:
    plan = make(host_without("change_pte_range"))
    assert list(plan.functions) == [hook.name for hook in HOOKS if hook.name != "change_pte_range"]


def test_a_trampoline_on_the_stand_in_comes_before_a_kprobe() -> None:
    facts = host_whose("change_pte_range", fentry=False)
    hook = make(facts).attachments["change_pte_range"]
    assert (hook.function, hook.how) == ("change_protection", How.FENTRY)
    hook = make(facts, (How.KPROBE,)).attachments["change_pte_range"]
    assert (hook.function, hook.how) == ("change_protection", How.KPROBE)


def test_a_stand_in_may_be_a_kprobe() -> None:
    functions = dict(host_without("change_pte_range").functions)
    functions["change_protection"] = FunctionFacts(PARAMETERS["change_protection"], False, True)
    hook = make(host(functions=functions)).attachments["change_pte_range"]
    assert (hook.function, hook.how) == ("change_protection", How.KPROBE)


def test_mmap_region_can_be_done_without_and_that_is_told() -> None:
    plan = make(host_without("mmap_region"))
    assert plan.refusal is None
    assert "mmap_region" not in plan.attachments
    assert plan.follow_btf_pointers
    ((hook, said),) = degraded(plan.attachments, plan.needless).items()
    assert hook.name == "mmap_region"
    assert "one row" in said
    assert hook.mend


@pytest.mark.parametrize(
    "hook", [each for each in HOOKS if each.degraded_without], ids=lambda hook: hook.name
)
def test_a_hook_that_cannot_be_had_is_told(hook: Hook) -> None:
    plan = make(host_whose(hook.name, fentry=False, kprobe=False))
    assert plan.refusal is None
    assert hook.name not in plan.attachments
    ((found, said),) = degraded(plan.attachments, plan.needless).items()
    assert (found, said) == (hook, hook.degraded_without)


@pytest.mark.parametrize(
    "function",
    [
        "do_huge_pmd_wp_page",
        "pmdp_set_access_flags",
        "__split_huge_pmd",
        "hugetlb_fault",
        "handle_userfault",
    ],
)
def test_where_a_kernel_has_no_such_pages_nothing_is_missed(function: str) -> None:
    """It was built without them: these functions are never inlined."""
    plan = make(host_without(function))
    assert function not in plan.attachments
    assert plan.needless == {function}
    assert not degraded(plan.attachments, plan.needless)


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, True),
        ({"clean_pages": None}, True),
        ({"clean_pages": False}, False),
        ({"optimization": False}, False),
    ],
)
def test_numa_hints_that_make_nothing_writable_need_no_hook(
    changes: dict[str, bool | None], missed: bool
) -> None:
    """Up to Linux 6.1 they give back what there was."""
    facts = host_without("numa_migrate_check")
    plan = make(replace(facts, behavior=replace(facts.behavior, **changes)))
    assert bool(degraded(plan.attachments, plan.needless)) is missed
    assert ("numa_migrate_check" in plan.needless) is not missed


def test_what_only_adds_to_a_missing_hook_is_neither_attached_nor_missed() -> None:
    plan = make(host_without("numa_migrate_check"))
    assert "migrate_misplaced_folio_prepare" not in plan.attachments
    ((hook, _),) = degraded(plan.attachments, plan.needless).items()
    assert hook.name == "numa_migrate_check"


def test_a_capable_host_is_not_degraded() -> None:
    plan = make(host())
    assert not degraded(plan.attachments, plan.needless)


@pytest.mark.parametrize("function", ["change_protection", "do_wp_page", "handle_mm_fault"])
def test_without_a_required_function_nothing_is_attached(function: str) -> None:
    plan = make(host_without(function))
    assert plan.attachments == {}
    assert plan.refusal is not None
    assert f"can be put on {function}." in plan.refusal.why
    assert "pte-trace doctor" in plan.refusal.mend


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        ("change_protection", "cp_flags"),
        ("do_wp_page", "vmf"),
        ("handle_mm_fault", "vma"),
        ("handle_mm_fault", "address"),
        ("handle_mm_fault", "flags"),
    ],
)
def test_a_function_without_the_argument_we_read_is_not_hooked(
    function: str, argument: str
) -> None:
    left = tuple(name for name in PARAMETERS[function] if name != argument)
    plan = make(host_whose(function, parameters=left))
    assert plan.refusal is not None
    assert function in plan.refusal.why


def test_the_hook_and_its_stand_in_are_both_named_when_neither_is_there() -> None:
    functions = {name: FunctionFacts(None, False, False) for name in TRACED_FUNCTIONS}
    refusal = make(host(functions=functions)).refusal
    assert refusal is not None
    assert "on change_pte_range or on its stand-in change_protection." in refusal.why


def unattachable(**changes: object) -> HostFacts:
    functions = {
        name: FunctionFacts(parameters, False, False) for name, parameters in PARAMETERS.items()
    }
    return host(functions=functions, **changes)


@pytest.mark.parametrize(
    ("facts", "mend"),
    [
        (unattachable(kprobes=False), "CONFIG_KPROBES=y"),
        (unattachable(kprobes_armed=False), "echo 1 | sudo tee /sys/kernel/debug/kprobes/enabled"),
        (unattachable(capabilities=NOBODY, root=False), "sudo pte-trace"),
        (unattachable(capabilities=NOBODY), "--cap-add BPF"),
        (unattachable(capabilities=frozenset({"CAP_BPF"}), root=False), "sudo pte-trace"),
        (unattachable(capabilities=frozenset({"CAP_PERFMON"})), "pte-trace doctor"),
        (
            unattachable(capabilities=frozenset({"CAP_PERFMON"}), perf_event_paranoid=3),
            "kernel.perf_event_paranoid=2",
        ),
        (unattachable(capabilities=None), "pte-trace doctor"),
        (unattachable(), "pte-trace doctor"),
    ],
    ids=[
        *("no kprobes", "kprobes switched off", "no capabilities", "root without capabilities"),
        *("CAP_BPF", "CAP_PERFMON", "perf is root's"),
        *("unknown", "root"),
    ],
)
def test_where_nothing_can_be_attached_the_likeliest_cure_is_told(
    facts: HostFacts, mend: str
) -> None:
    refusal = make(facts).refusal
    assert refusal is not None
    assert mend in refusal.mend


REFUSALS = {
    "another machine": (
        host(machine="aarch64"),
        "x86-64 page tables only; this machine is aarch64",
        "on an x86-64 machine",
    ),
    "locked down": (
        host(lockdown="confidentiality"),
        "lockdown (confidentiality) forbids",
        "lockdown=confidentiality",
    ),
    "no bpf system call": (
        host(bpf_errno=errno.ENOSYS),
        "no bpf system call",
        "CONFIG_BPF_SYSCALL=y",
    ),
    "bpf refused to root": (
        host(bpf_errno=errno.EPERM),
        "even to root",
        "on the host itself",
    ),
    "bpf refused to root by a filter": (
        host(bpf_errno=errno.EACCES),
        "even to root",
        "on the host itself",
    ),
    "bpf refused to a user": (
        host(bpf_errno=errno.EPERM, capabilities=NOBODY, root=False),
        "needs the right to load BPF programs",
        "sudo pte-trace",
    ),
    "bpf refused to a container's root": (
        host(bpf_errno=errno.EPERM, capabilities=NOBODY),
        "needs the right to load BPF programs",
        "docker run --cap-add BPF",
    ),
    "bpf refused to somebody unknown": (
        host(bpf_errno=errno.EPERM, capabilities=None, root=False),
        "needs the right to load BPF programs",
        "sudo pte-trace",
    ),
    "ftrace off": (
        host(ftrace_enabled=False),
        "switched off (kernel.ftrace_enabled=0)",
        "sysctl kernel.ftrace_enabled=1",
    ),
    "no BTF": (
        host(btf=False, btf_problem="it was built without CONFIG_DEBUG_INFO_BTF"),
        "cannot be read: it was built without CONFIG_DEBUG_INFO_BTF.",
        "CONFIG_DEBUG_INFO_BTF=y",
    ),
    "BTF not known": (
        host(btf=None, btf_problem="Permission denied"),
        "cannot be read: Permission denied.",
        "CONFIG_DEBUG_INFO_BTF=y",
    ),
    "members missing": (
        host(missing_members=("vm_fault.pte", "file.f_mode")),
        "types lack vm_fault.pte, file.f_mode.",
        "issue tracker",
    ),
    "kernel memory not readable": (
        host(kernel_memory_readable=False),
        "does not let BPF programs read kernel memory",
        "without lockdown",
    ),
    "no BCC": (
        host(bcc_version=None),
        "BCC is not installed",
        "apt install python3-bpfcc",
    ),
    "another package called bcc": (
        host(bcc_version=None, bcc_impostor="/x/bcc"),
        "in /x/bcc is not BCC but another",
        "pip uninstall bcc",
    ),
}


@pytest.mark.parametrize(("facts", "why", "mend"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_host_that_cannot_be_traced_is_told_why_and_how_to_mend_it(
    facts: HostFacts, why: str, mend: str
) -> None:
    plan = make(facts)
    assert plan.attachments == {}
    assert plan.refusal is not None
    assert why in plan.refusal.why
    assert mend in plan.refusal.mend


@pytest.mark.parametrize(
    "facts",
    [
        host(release=None),
        host(capabilities=None),
        host(capabilities=frozenset({"CAP_BPF", "CAP_PERFMON"})),
        host(lockdown=None),
        host(lockdown="integrity"),
        host(bpf_errno=errno.EINVAL),
        host(kernel_memory_readable=None),
        host(kprobes=False),
        host(kprobes=None),
        host(kprobes_armed=None),
        host(ftrace_enabled=None),
        host(initial_pid_namespace=None),
        host(tracefs=False),
        host(kptr_restrict=2),
        host(bcc_version="unknown"),
    ],
    ids=[
        "release",
        "capabilities",
        "CAP_BPF and CAP_PERFMON",
        "lockdown not known",
        "lockdown=integrity",
        "EINVAL",
        "kernel memory not known",
        "no kprobes",
        "kprobes not known",
        "kprobes armed or not",
        "ftrace not known",
        "PID namespace not known",
        "tracefs",
        "kptr_restrict",
        "BCC version not known",
    ],
)
def test_what_tracing_does_not_need_does_not_stop_it(facts: HostFacts) -> None:
    assert make(facts) == make(host())


def test_in_a_pid_namespace_all_can_be_traced_but_what_is_asked_for_by_process() -> None:
    plan = make(host(initial_pid_namespace=False))
    assert plan.by_process is not None
    assert "neither -p nor a command can be traced" in plan.by_process.why
    assert "--pid=host" in plan.by_process.mend
    assert replace(plan, by_process=None) == make(host())
    assert make(host()).by_process is None


def test_the_machine_is_looked_at_before_all_else() -> None:
    facts = host(machine="riscv64", bpf_errno=errno.EPERM, btf=False, lockdown="confidentiality")
    refusal = make(facts).refusal
    assert refusal is not None
    assert "riscv64" in refusal.why


@pytest.mark.parametrize("how", BOTH)
def test_a_way_asked_for_is_the_only_one_tried(how: How) -> None:
    plan = make(host(casts=False), (how,))
    assert {attachment.how for attachment in plan.attachments.values()} == {how}
    assert plan.follow_btf_pointers is (how is How.FENTRY)


@pytest.mark.parametrize(
    ("how", "said"), [(How.FENTRY, "No BPF trampoline (fentry) can"), (How.KPROBE, "No kprobe can")]
)
def test_a_way_asked_for_is_not_replaced_by_another(how: How, said: str) -> None:
    facts = host_whose("do_wp_page", **{how.value: False})
    refusal = make(facts, (how,)).refusal
    assert refusal is not None
    assert refusal.why == f"{said} be put on do_wp_page."
    assert refusal.mend.startswith("Leave out --attach")


def test_leaving_out_the_way_is_not_advised_where_no_other_does_better() -> None:
    refusal = make(unattachable(kprobes=False), (How.FENTRY,)).refusal
    assert refusal is not None
    assert "--attach" not in refusal.mend


def test_the_same_facts_give_the_same_plan() -> None:
    assert make(host_without("change_pte_range")) == make(host_without("change_pte_range"))


known = st.sampled_from([True, False, None])
arguments = st.sampled_from(sorted({name for names in PARAMETERS.values() for name in names}))
functions = st.builds(
    FunctionFacts,
    parameters=st.none()
    | st.sampled_from(sorted(PARAMETERS.values()))
    | st.lists(arguments, max_size=7, unique=True).map(tuple),
    fentry=known,
    kprobe=known,
)
# Mostly what a capable host has, so that a plan comes about often enough.
hosts = st.builds(
    host,
    machine=st.sampled_from(["x86_64", "x86_64", "x86_64", "aarch64", None]),
    capabilities=st.sampled_from([ROOT, ROOT, NOBODY, None]),
    lockdown=st.sampled_from(["none", "integrity", "confidentiality", None]),
    bpf_errno=st.sampled_from([None, None, None, errno.EPERM, errno.ENOSYS, errno.EINVAL]),
    btf=st.sampled_from([True, True, True, False, None]),
    btf_problem=st.none() | st.just("Permission denied"),
    missing_members=st.just(()) | st.just(("file.f_mode",)),
    current_task_btf=known,
    kernel_memory_readable=known,
    kprobes=known,
    bcc_version=st.none() | st.just("0.26.0"),
    bcc_impostor=st.none() | st.just("/x/bcc"),
    functions=st.builds(
        lambda changed: {**host().functions, **changed},
        st.dictionaries(st.sampled_from(TRACED_FUNCTIONS), functions, max_size=3),
    )
    | st.dictionaries(st.sampled_from(TRACED_FUNCTIONS), functions),
)


@given(facts=hosts, ways=st.sampled_from([BOTH, BOTH[:1], BOTH[1:], BOTH[::-1]]))
def test_every_host_is_refused_or_has_all_required_hooks(
    facts: HostFacts, ways: tuple[How, ...]
) -> None:
    plan = make(facts, ways)
    if plan.refusal:
        assert plan.attachments == {}
        assert plan.refusal.why.endswith(".")
        assert plan.refusal.mend
        return
    assert {hook.name for hook in HOOKS if hook.degraded_without is None} <= set(plan.attachments)
    for hook in HOOKS:
        attachment = plan.attachments.get(hook.name)
        if attachment is None:
            continue
        function = facts.functions[attachment.function]
        assert attachment.function in (hook.name, hook.stand_in)
        assert set(ARGUMENTS[attachment.function]) <= set(attachment.parameters)
        assert attachment.how in ways
        assert function.fentry if attachment.how is How.FENTRY else function.kprobe
        assert bool(attachment.degraded) is (attachment.function != hook.name)


def test_facts_of_which_nothing_is_known_are_refused() -> None:
    assert make(HostFacts()).refusal is not None


def needed(facts: HostFacts) -> set[str]:
    return set(capabilities(facts, make(facts).attachments))


def to_read(facts: HostFacts) -> set[str]:
    return set(capabilities_to_read(facts, make(facts).attachments))


def test_tracing_needs_no_root_but_two_capabilities() -> None:
    assert needed(host()) == {"CAP_BPF", "CAP_PERFMON"}
    assert needed(host(perf_event_paranoid=None, tables_are_locked_memory=None)) == needed(host())


def test_kprobes_need_more_where_perf_events_are_roots() -> None:
    assert needed(host(perf_event_paranoid=3)) == needed(host())
    kprobe = replace(host_whose("do_wp_page", fentry=False), perf_event_paranoid=3)
    assert needed(kprobe) == needed(host()) | {"CAP_SYS_ADMIN"}
    assert needed(replace(kprobe, perf_event_paranoid=2)) == needed(host())


def test_readings_with_kprobes_need_more_where_they_may_be_preempted() -> None:
    for preemptible in (True, None):
        facts = host(preemptible=preemptible)
        assert needed(facts) == needed(host()) | {"CAP_SYS_NICE"}
        assert to_read(facts) == {"CAP_BPF", "CAP_SYS_NICE"}
    assert to_read(host()) == {"CAP_BPF"}


def test_tables_need_more_where_they_are_locked_memory() -> None:
    locked = host(tables_are_locked_memory=True)
    assert needed(locked) == needed(host()) | {"CAP_SYS_RESOURCE"}
