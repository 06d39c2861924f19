"""All machines: which kernels, what they save, and which should and don't.

Recorded series and pte_trace_kernel_info only, so that it works above several Prometheus servers.
There each has a label of its own on its `release:` series, and a machine whose kernel was changed
has two kernels for some minutes.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from dashboards.parts import (
    CPUS,
    FLEET,
    MACHINE,
    NUMBER,
    PER_SECOND,
    SHARE,
    lines,
    now,
    number,
    over_time,
    page,
    query_variable,
    rows,
)

_OF = '{release=~"$release"}'
_THESE = '{instance=~"$instance",release=~"$release"}'
_MADE = f"release:pte_trace_entries_made_writable:rate5m{_OF}"
_SAVED = f"release:pte_trace_saved_seconds:rate5m{_OF}"
_AVOIDABLE = f"release:pte_trace_avoidable_faults:rate5m{_OF}"
_SHOULD = (
    f"max by (job, instance, release) (instance:pte_trace_kernel_lacks_optimization:info{_THESE})"
)
# Of each machine the one that was seen last.
_KERNEL = (
    "(max by (job, instance, release, optimization)"
    f" (topk by (job, instance) (1, timestamp(pte_trace_kernel_info{_THESE}))) > bool 0)"
)
_AND_KERNEL = f" * on (job, instance) group_left (release, optimization) {_KERNEL}"
_TO_MACHINE = (
    "Show this machine",
    f"/d/{MACHINE}?var-instance=${{__data.fields.instance}}&var-datasource=${{datasource}}"
    "&${__url_time_range}",
)


def _by_release(series: str) -> str:
    return f"sum by (release) ({series})"


def build() -> Dashboard:
    made = page(
        FLEET,
        "pte-trace: the fleet",
        "Kernels across machines, and what mprotect's optimization saves on each release.",
        query_variable(
            "release", "Kernel", "label_values(pte_trace_kernel_info, release)", several=True
        ),
        query_variable(
            "instance",
            "Machine (in the lists)",
            'label_values(pte_trace_kernel_info{release=~"$release"}, instance)',
            several=True,
        ),
    )
    _numbers(made)
    _over_time(made)
    _machines(made)
    return made


def _numbers(made: Dashboard) -> None:
    made.with_row(Row("Now"))
    made.with_panel(
        number(
            "Machines",
            "Machines whose exporter answers.",
            NUMBER,
            now(f"sum(release:pte_trace_machines:count{_OF})"),
            span=3,
        )
    )
    made.with_panel(
        number(
            "With the optimization",
            "Machines on which mprotect() maps pages writable at once, found by doing it.",
            NUMBER,
            now(
                'sum(release:pte_trace_machines:count{release=~"$release",optimization="true"})'
                " or vector(0)"
            ),
            span=3,
        )
    )
    made.with_panel(
        number(
            "Should have it and don't",
            "Machines with Linux 6.0 or newer on which it is absent.",
            NUMBER,
            now(f"count({_SHOULD}) or vector(0)"),
            bad_above=1,
            span=3,
        )
    )
    made.with_panel(
        number(
            "Saved at most",
            "CPU-seconds saved each second, which are CPUs, on all machines: an estimate."
            " Entries made writable (each at most one fault avoided) times the mean time of a"
            " wp_reuse fault there.",
            CPUS,
            now(f"sum({_SAVED})"),
        )
    )
    made.with_panel(
        number(
            "Avoidable faults",
            "Avoidable faults a second on all machines.",
            PER_SECOND,
            now(f"sum({_AVOIDABLE})"),
        )
    )
    made.with_panel(
        number(
            "Efficacy",
            "Entries (PTEs, and PMDs of huge pages) made writable, of those and the avoidable"
            " faults that remained, on all machines. Understated where not all PTEs were"
            " looked at.",
            SHARE,
            now(f"sum({_MADE}) / (sum({_MADE}) + sum({_AVOIDABLE}))"),
            span=3,
        )
    )
    made.with_panel(
        number(
            "Efficacy understated",
            "Machines on which more than a tenth of the PTEs was not looked at, as their changes"
            " of protection are too long (--inspect) or of huge pages.",
            NUMBER,
            now(
                "count((max by (job, instance) (instance:pte_trace_inspected:ratio_rate5m) < 0.9)"
                f"{_AND_KERNEL}) or vector(0)"
            ),
            bad_above=1,
        )
    )


def _over_time(made: Dashboard) -> None:
    made.with_row(Row("By kernel release"))
    made.with_panel(
        lines(
            "Efficacy by kernel release",
            "PTEs made writable, of those and the avoidable faults that remained.",
            SHARE,
            over_time(
                f"{_by_release(_MADE)} / ({_by_release(_MADE)} + {_by_release(_AVOIDABLE)} > 0)",
                "{{release}}",
            ),
            most=1,
        )
    )
    made.with_panel(
        lines(
            "CPU time saved by kernel release",
            "CPU-seconds saved each second, which are CPUs: at most, an estimate.",
            CPUS,
            over_time(_by_release(_SAVED), "{{release}}"),
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "Avoidable faults by kernel release",
            "wp_reuse faults that remained.",
            PER_SECOND,
            over_time(_by_release(_AVOIDABLE), "{{release}}"),
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "Machines by kernel release",
            "Machines whose exporter answers.",
            NUMBER,
            over_time(
                f"sum by (release, optimization) (release:pte_trace_machines:count{_OF})",
                "{{release}}, optimization: {{optimization}}",
            ),
            stacked=True,
        )
    )


def _machines(made: Dashboard) -> None:
    made.with_row(Row("Machines"))
    hidden = ("__name__", "job")
    made.with_panel(
        rows(
            "Kernel, optimization and efficacy",
            "Each machine; without a value, nothing was changed or faulted there lately, or its"
            " exporter does not inspect PTEs. A click on one leads to its dashboard.",
            SHARE,
            now(
                "max by (job, instance) (instance:pte_trace_efficacy:ratio_rate5m)"
                f"{_AND_KERNEL} or on (job, instance) {_KERNEL} * NaN"
            ),
            hidden=hidden,
            value="efficacy",
            links={"instance": _TO_MACHINE},
        )
    )
    made.with_panel(
        rows(
            "Should have it and don't",
            "Linux 6.0 or newer, and mprotect() leaves PTEs read-only all the same. Empty is good.",
            NUMBER,
            now(_SHOULD),
            hidden=(*hidden, "Value"),
            links={"instance": _TO_MACHINE},
        )
    )
    made.with_panel(
        rows(
            "Saved most",
            "The machines on which most CPU time is saved, at most: an estimate. CPU-seconds each"
            " second, which are CPUs.",
            CPUS,
            now(
                "topk(20, max by (job, instance) (instance:pte_trace_saved_seconds:rate5m)"
                f"{_AND_KERNEL})"
            ),
            hidden=hidden,
            value="saved",
            links={"instance": _TO_MACHINE},
        )
    )
    made.with_panel(
        rows(
            "Most avoidable faults",
            "The machines with the most avoidable faults a second.",
            PER_SECOND,
            now(
                "topk(20, max by (job, instance)"
                " (instance:pte_trace_avoidable_faults:rate5m)"
                f"{_AND_KERNEL})"
            ),
            hidden=hidden,
            value="faults",
            links={"instance": _TO_MACHINE},
        )
    )
