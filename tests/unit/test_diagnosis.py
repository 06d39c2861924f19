"""What the doctor says of a host, for a person and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import pytest

from pte_trace.host import plan
from pte_trace.host.behavior import Behavior
from pte_trace.host.facts import HostFacts
from pte_trace.views import diagnosis, text
from tests.builders import PARAMETERS, host, host_whose, host_without


def page(facts: HostFacts) -> str:
    stream = StringIO()
    text.console(stream).print(diagnosis.page(facts, plan.make(facts)))
    return stream.getvalue()


def fact(facts: HostFacts, name: str) -> str:
    """What the page says of *name*."""
    (line,) = (line for line in page(facts).splitlines() if line.startswith(f"{name}  "))
    return line.removeprefix(name).strip()


@pytest.mark.parametrize(
    ("facts", "name", "said"),
    [
        (host(), "kernel", "Linux 6.18.0-test, x86_64"),
        (host(release=None), "kernel", "Linux unknown, x86_64"),
        (host(capabilities=frozenset()), "capabilities", "none of use"),
        (host(capabilities=None), "capabilities", "unknown"),
        (host(), "type information (BTF)", "yes"),
        (host(btf=False, btf_problem="gone"), "type information (BTF)", "no: gone"),
        (host(bpf_errno=1), "BPF programs accepted", "no"),
        (host(kernel_memory_readable=None), "kernel memory readable", "unknown"),
        (host(kprobes=False), "kprobes", "no"),
        (host(kprobes_armed=False), "kprobes", "yes: switched off"),
        (host(ftrace_enabled=False), "function tracing (ftrace)", "off"),
        (host(), "kernel symbols", "tried by name, below (kptr_restrict: 0, of no matter)"),
        (
            host(kptr_restrict=None),
            "kernel symbols",
            "tried by name, below (kptr_restrict: unknown, of no matter)",
        ),
        (host(), "PIDs", "the kernel's"),
        (host(initial_pid_namespace=False), "PIDs", "a namespace's, not the kernel's"),
        (host(), "cgroups", "version 2"),
        (host(cgroups=None), "cgroups", "unknown"),
        (
            host(cgroups="1"),
            "cgroups",
            "version 1: to which cgroup, unit or container a process belongs is not known",
        ),
        (host(bcc_version=None), "BCC", "no"),
        (
            host(bcc_version=None, bcc_impostor="/x/bcc"),
            "BCC",
            "no: /x/bcc is another package of that name",
        ),
    ],
)
def test_each_fact_has_a_line(facts: HostFacts, name: str, said: str) -> None:
    assert fact(facts, name) == said


@pytest.mark.parametrize(
    ("at_work", "said"), [(True, "at work"), (False, "absent"), (None, "unknown")]
)
def test_whether_the_optimization_works_is_told(at_work: bool | None, said: str) -> None:
    assert fact(host(behavior=Behavior(optimization=at_work)), "mprotect optimization") == said


def test_each_function_has_a_line_of_what_was_tried() -> None:
    facts = host_whose("do_wp_page", fentry=None, kprobe=False)
    lines = [line.split() for line in page(facts).splitlines()]
    assert ["do_wp_page", "yes", "refused", "not", "tried", "no"] in lines
    preempted = replace(facts, preemptible=True)
    lines = [line.split() for line in page(preempted).splitlines()]
    assert ["do_wp_page", "yes", "refused", "yes", "no"] in lines
    assert ["handle_mm_fault", "yes", "yes", "yes", "yes"] in lines


def test_each_hook_has_a_line_of_where_it_is_attached() -> None:
    lines = [" ".join(line.split()) for line in page(host_without("change_pte_range")).splitlines()]
    assert "change_pte_range change_protection fentry yes" in lines
    assert "do_wp_page do_wp_page fentry no" in lines


def test_what_is_degraded_is_told_with_what_mends_it() -> None:
    shown = page(host_without("change_pte_range"))
    assert "using its caller change_protection, and page tables are looked for" in shown
    assert "mends this" in shown
    assert "mends this" not in page(host())


def test_in_a_pid_namespace_what_cannot_be_asked_for_is_told() -> None:
    facts = host(initial_pid_namespace=False)
    assert "neither -p nor a command" in page(facts)
    made = diagnosis.document(facts, plan.make(facts))
    assert made["refusal"] is None
    assert made["refusal_by_process"]["mend"].startswith("Run it on the host")
    assert diagnosis.document(host(), plan.make(host()))["refusal_by_process"] is None


def test_a_hook_that_is_done_without_has_its_line() -> None:
    shown = page(host_without("mmap_region"))
    assert ["mmap_region", "-", "-", "yes"] in [line.split() for line in shown.splitlines()]
    assert "shown as one row" in shown


def test_the_capabilities_needed_are_told_with_their_reasons() -> None:
    facts = host(tables_are_locked_memory=True)
    shown = page(facts).splitlines()
    lines = [line.strip().split(maxsplit=1) for line in shown if line.startswith("CAP_")]
    made = diagnosis.document(facts, plan.make(facts))["capabilities"]
    assert dict(lines) == made
    assert set(made) == {"CAP_BPF", "CAP_PERFMON", "CAP_SYS_RESOURCE"}


def test_a_host_that_is_refused_has_facts_and_no_hooks() -> None:
    shown = page(host(machine="aarch64"))
    assert shown.startswith("This host cannot be traced as things are.")
    assert "aarch64" in shown
    assert "ATTACHED TO" not in shown


def test_json_has_facts_functions_and_hooks() -> None:
    facts = host()
    made = diagnosis.document(facts, plan.make(facts))
    assert json.loads(json.dumps(made)) == made
    assert made["traceable"] is True
    assert made["refusal"] is None
    assert made["kernel"] == {"release": "6.18.0-test", "optimization": True}
    assert set(made["functions"]) == set(made["hooks"]) == set(PARAMETERS)
    assert made["functions"]["do_wp_page"] == {
        "parameters": ["vmf"],
        "fentry": True,
        "session": True,
        "kprobe": True,
    }
    assert made["hooks"]["do_wp_page"] == {
        "attached": "do_wp_page",
        "how": "fentry",
        "degraded": None,
    }


def test_json_says_why_a_host_is_refused() -> None:
    facts = host(btf=False, btf_problem="gone")
    made = diagnosis.document(facts, plan.make(facts))
    assert made["traceable"] is False
    assert made["hooks"] == {}
    assert made["facts"]["btf"] is False
    assert "gone" in made["refusal"]["why"]
    assert made["refusal"]["mend"]


def test_json_tells_unknown_from_no() -> None:
    made = diagnosis.document(HostFacts(), plan.make(HostFacts()))
    assert made["kernel"] == {"release": None, "optimization": None}
    assert made["facts"]["capabilities"] is None
    assert made["facts"]["btf"] is None
    assert made["facts"]["kprobes"] is None
