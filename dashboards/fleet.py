"""All machines: which kernels, what they save, and which should and don't. Recorded series only."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from dashboards.parts import (
    FLEET,
    MACHINE,
    NUMBER,
    PER_SECOND,
    SECONDS,
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
_SHOULD = "instance:pte_trace_kernel_lacks_optimization:info"
_TO_MACHINE = (
    "Show this machine",
    f"/d/{MACHINE}?var-instance=${{__data.fields.instance}}&var-datasource=${{datasource}}"
    "&${__url_time_range}",
)


def build() -> Dashboard:
    made = page(
        FLEET,
        "pte-trace: the fleet",
        "Kernels across machines, and what mprotect's optimization saves on each release.",
        query_variable(
            "release", "Kernel", "label_values(pte_trace_kernel_info, release)", several=True
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
        )
    )
    made.with_panel(
        number(
            "Should have it and don't",
            "Machines with Linux 6.0 or newer on which it is absent.",
            NUMBER,
            now(f"count({_SHOULD}{_OF}) or vector(0)"),
            bad_above=1,
        )
    )
    made.with_panel(
        number(
            "Saved at most",
            "CPU-seconds saved each second on all machines: an estimate. PTEs made writable (each"
            " at most one fault avoided) times the mean time of a wp_reuse fault there.",
            SECONDS,
            now(f"sum(release:pte_trace_saved_seconds:rate5m{_OF})"),
        )
    )
    made.with_panel(
        number(
            "Avoidable faults",
            "wp_reuse faults a second on all machines.",
            PER_SECOND,
            now(
                'sum(release:pte_trace_write_faults:rate5m{release=~"$release",outcome="wp_reuse"})'
            ),
        )
    )
    made.with_panel(
        number(
            "Efficacy",
            "PTEs made writable, of those and the avoidable faults that remained, on all machines.",
            SHARE,
            now(
                f"sum(release:pte_trace_ptes_made_writable:rate5m{_OF})"
                f" / (sum(release:pte_trace_ptes_made_writable:rate5m{_OF}) + "
                'sum(release:pte_trace_write_faults:rate5m{release=~"$release",outcome="wp_reuse"}))'
            ),
        )
    )


def _over_time(made: Dashboard) -> None:
    made.with_row(Row("By kernel release"))
    made.with_panel(
        lines(
            "Efficacy by kernel release",
            "PTEs made writable, of those and the avoidable faults that remained.",
            SHARE,
            over_time(f"release:pte_trace_efficacy:ratio_rate5m{_OF}", "{{release}}"),
            most=1,
        )
    )
    made.with_panel(
        lines(
            "CPU time saved by kernel release",
            "CPU-seconds saved a second, at most; an estimate.",
            SECONDS,
            over_time(f"release:pte_trace_saved_seconds:rate5m{_OF}", "{{release}}"),
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "Avoidable faults by kernel release",
            "wp_reuse faults that remained.",
            PER_SECOND,
            over_time(
                'release:pte_trace_write_faults:rate5m{release=~"$release",outcome="wp_reuse"}',
                "{{release}}",
            ),
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "Machines by kernel release",
            "Machines whose exporter answers.",
            NUMBER,
            over_time(
                f"release:pte_trace_machines:count{_OF}",
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
                "instance:pte_trace_efficacy:ratio_rate5m * on (job, instance)"
                f" group_left (release, optimization) pte_trace_kernel_info{_OF}"
                f" or on (job, instance) pte_trace_kernel_info{_OF} * NaN"
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
            now(f"{_SHOULD}{_OF}"),
            hidden=(*hidden, "Value"),
            links={"instance": _TO_MACHINE},
        )
    )
    made.with_panel(
        rows(
            "Saved most",
            "The machines on which most CPU time is saved a second, at most; an estimate.",
            SECONDS,
            now(
                "topk(20, instance:pte_trace_saved_seconds:rate5m * on (job, instance)"
                f" group_left (release) pte_trace_kernel_info{_OF})"
            ),
            hidden=hidden,
            value="saved",
            links={"instance": _TO_MACHINE},
        )
    )
    made.with_panel(
        rows(
            "Most avoidable faults",
            "The machines with the most wp_reuse faults a second.",
            PER_SECOND,
            now(
                'topk(20, instance:pte_trace_write_faults:rate5m{outcome="wp_reuse"}'
                " * on (job, instance) group_left (release, optimization)"
                f" pte_trace_kernel_info{_OF})"
            ),
            hidden=(*hidden, "outcome"),
            value="faults",
            links={"instance": _TO_MACHINE},
        )
    )
