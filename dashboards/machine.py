"""One machine: is it on, what does it save, what is left, and what do we cost."""

from __future__ import annotations

from collections.abc import Callable

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from dashboards.parts import (
    BYTES,
    MACHINE,
    NUMBER,
    PER_SECOND,
    SECONDS,
    SHARE,
    durations,
    lines,
    names,
    now,
    number,
    over_time,
    page,
    query_variable,
    rows,
)
from pte_trace.counted.counters import AVOIDABLE

_HERE = 'instance="$instance",comm=~"$comm"'
_INSTANCE = '{instance="$instance"}'
_MADE = f"pte_trace_ptes_made_writable_total{{{_HERE}}}"
_HUGE = f"pte_trace_pmds_made_writable_total{{{_HERE}}}"
_FAULTS = f"pte_trace_write_faults_total{{{_HERE}}}"
_WP_FAULTS = f"pte_trace_wp_faults_total{{{_HERE}}}"
_AVOIDABLE = (
    f'pte_trace_wp_faults_total{{{_HERE},outcome="wp_reuse",protected_by=~"{"|".join(AVOIDABLE)}"}}'
)
_INSPECTED = f"pte_trace_ptes_inspected_total{_INSTANCE}"
_OMITTED = f"pte_trace_ptes_not_inspected_total{_INSTANCE}"
_NOT_LOOKED_AT = "{omitted} / ({inspected} + {omitted} > 0) or {inspected} * 0"
_OTHER = 'pte_trace_write_faults_total{instance="$instance",comm="other",mapping="other"}'
_COST = f"max(pte_trace_wp_reuse_cost_seconds{_INSTANCE})"


def _rate(series: str, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (rate({series}[$__rate_interval]))"


def _increase(series: str, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (increase({series}[$__range]))"


def _entries(how: Callable[[str, str], str], by: str = "") -> str:
    """PTEs and PMDs made writable; exporters of before they counted huge pages have no PMDs."""
    ptes, pmds = how(_MADE, by), how(_HUGE, by)
    return f"({ptes} + ({pmds} or {ptes} * 0))"


def build() -> Dashboard:
    made = page(
        MACHINE,
        "pte-trace: a machine",
        "What mprotect's optimization does on one machine, and the write faults that remain.",
        query_variable(
            "instance", "Machine", "label_values(pte_trace_kernel_info, instance)", several=False
        ),
        query_variable(
            "comm",
            "Process",
            'label_values(pte_trace_write_faults_total{instance="$instance"}, comm)',
            several=True,
        ),
    )
    _is_it_on(made)
    _over_time(made)
    _mappings(made)
    _ourselves(made)
    return made


def _is_it_on(made: Dashboard) -> None:
    made.with_row(Row("Is it on?"))
    made.with_panel(
        names(
            "Kernel",
            "The running kernel, and whether mprotect() maps pages writable at once on it: found"
            " by doing it when the exporter started.",
            now(
                f"pte_trace_kernel_info{_INSTANCE}",
                "Linux {{release}}, optimization: {{optimization}}",
            ),
            span=6,
        )
    )
    made.with_panel(
        number(
            "Efficacy",
            "The share of avoidable faults that was avoided in this time: entries (PTEs, and PMDs"
            " of huge pages) made writable, of those and the avoidable faults that remained."
            " Understated where not all PTEs were looked at.",
            SHARE,
            now(f"{_entries(_increase)} / ({_entries(_increase)} + {_increase(_AVOIDABLE)})"),
            span=3,
        )
    )
    made.with_panel(
        number(
            "PTEs not looked at",
            "Of those changed in this time by calls that asked for writable ones, on the whole"
            " machine. Efficacy and time saved rest on the others, and are at least what is"
            " shown. Red from a tenth on; below it is shown why.",
            SHARE,
            now(
                _NOT_LOOKED_AT.format(inspected=_increase(_INSPECTED), omitted=_increase(_OMITTED))
            ),
            bad_above=0.1,
            span=3,
        )
    )
    made.with_panel(
        number(
            "Saved at most",
            "CPU time saved in this time: an estimate. Entries made writable (each at most one"
            " fault avoided) times the mean time of the wp_reuse faults that were timed.",
            SECONDS,
            now(f"{_entries(_increase)} * {_COST}"),
            span=3,
        )
    )
    made.with_panel(
        number(
            "Avoidable faults",
            "wp_reuse faults in this time, of pages that a protection change had write-protected.",
            NUMBER,
            now(_increase(_AVOIDABLE)),
            span=3,
        )
    )
    made.with_panel(
        number(
            "Hooks not run",
            "Kernel functions whose events are not counted, as the kernel was told not to run what"
            " is attached there.",
            NUMBER,
            now(
                'count(pte_trace_hook_attached{instance="$instance",attached!=""} == 0)'
                " or vector(0)"
            ),
            bad_above=1,
            span=3,
        )
    )


def _over_time(made: Dashboard) -> None:
    made.with_row(Row("Over time"))
    made.with_panel(
        lines(
            "Efficacy",
            "Entries made writable, of those and the avoidable faults that remained; and the share"
            " of PTEs that this does not rest on, on the whole machine.",
            SHARE,
            over_time(f"{_entries(_rate)} / ({_entries(_rate)} + {_rate(_AVOIDABLE)})", "efficacy"),
            over_time(
                _NOT_LOOKED_AT.format(inspected=_rate(_INSPECTED), omitted=_rate(_OMITTED)),
                "PTEs not looked at",
            ),
            most=1,
        )
    )
    made.with_panel(
        lines(
            "Write faults by outcome",
            "Completed calls of handle_mm_fault() with FAULT_FLAG_WRITE. wp_reuse may be what the"
            " optimization avoids; other met no write-protected page: first touch, swap-in, …",
            PER_SECOND,
            over_time(_rate(_FAULTS, "outcome"), "{{outcome}}"),
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "Reused and copied, by what had write-protected the page",
            "mprotect, uffd_unprotect and numa_hint: with wp_reuse the avoidable faults. fork: the"
            " page was another process's too. soft_dirty, uffd_wp: somebody waits for a write."
            " never_writable: a file's page or the zero page. unknown: it was not seen.",
            PER_SECOND,
            over_time(_rate(_WP_FAULTS, "outcome, protected_by"), "{{outcome}}: {{protected_by}}"),
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "PTEs made writable",
            "PTEs writable after a change although the new protection alone would have left them"
            " read-only, by what changed it. Inspected is what this and the next panel rest on.",
            PER_SECOND,
            over_time(_rate(_MADE, "cause"), "{{cause}}"),
            over_time(_rate(f"pte_trace_ptes_inspected_total{{{_HERE}}}"), "inspected"),
        )
    )
    made.with_panel(
        lines(
            "Huge pages made writable, and split",
            "PMDs writable after a change although the new protection alone would have left them"
            " read-only, by what changed it; and PMDs that were split into 512 PTEs, after which"
            " each small page may take a fault.",
            PER_SECOND,
            over_time(_rate(_HUGE, "cause"), "{{cause}}"),
            over_time(_rate(f"pte_trace_pmds_split_total{{{_HERE}}}"), "split"),
        )
    )
    made.with_panel(
        lines(
            "Huge pages left read-only by reason",
            "By changes that asked for writable ones. huge: this kernel never does it for huge"
            " pages (before 6.2); hugetlb: no kernel does it for those.",
            PER_SECOND,
            over_time(
                _rate(f"pte_trace_pmds_left_readonly_total{{{_HERE}}}", "reason"), "{{reason}}"
            ),
            stacked=True,
        )
    )
    made.with_panel(
        lines(
            "PTEs left read-only by reason",
            "By changes that asked for writable PTEs. shared: not exclusive, or not anonymous.",
            PER_SECOND,
            over_time(
                _rate(f"pte_trace_ptes_left_readonly_total{{{_HERE}}}", "reason"), "{{reason}}"
            ),
            stacked=True,
        )
    )
    made.with_panel(
        durations(
            "Fault cost",
            "How long write faults took inside handle_mm_fault(), all outcomes.",
            f"sum by (le) (increase(pte_trace_fault_duration_seconds_bucket{{{_HERE}}}"
            "[$__rate_interval]))",
        )
    )
    made.with_panel(
        lines(
            "Mean fault cost by outcome",
            "Mean time inside handle_mm_fault().",
            SECONDS,
            over_time(
                f"{_rate(f'pte_trace_fault_duration_seconds_sum{{{_HERE}}}', 'outcome')}"
                f" / {_rate(f'pte_trace_fault_duration_seconds_count{{{_HERE}}}', 'outcome')}",
                "{{outcome}}",
            ),
        )
    )
    made.with_panel(
        lines(
            "Protection changes by cause",
            "Calls of change_protection().",
            PER_SECOND,
            over_time(
                _rate(f"pte_trace_protection_changes_total{{{_HERE}}}", "cause"), "{{cause}}"
            ),
        )
    )
    made.with_panel(
        lines(
            "PTEs changed by cause",
            "PTEs that those calls processed, by the kernel's own return value.",
            PER_SECOND,
            over_time(_rate(f"pte_trace_ptes_changed_total{{{_HERE}}}", "cause"), "{{cause}}"),
        )
    )
    made.with_panel(
        lines(
            "PTEs not looked at by reason",
            "PTEs changed by calls that asked for writable ones, of which it is not known what"
            " became of them: they are missing in the efficacy. limit: beyond what is looked at in"
            " one call (--inspect); huge: in pages larger than 2 MiB that are not hugetlb's. On the"
            " whole machine.",
            PER_SECOND,
            over_time(_rate(_OMITTED, "omission"), "{{omission}}"),
        )
    )
    made.with_panel(
        lines(
            'Faults in mapping="other"',
            "The share of write faults in mappings that found no room for series of their own"
            " (--top-mappings): in no list of top mappings, but in all sums.",
            SHARE,
            over_time(
                f"{_rate(_OTHER)} /"
                " (sum (rate(pte_trace_write_faults_total"
                f"{_INSTANCE}[$__rate_interval])) > 0)",
                "other",
            ),
            most=1,
        )
    )


def _mappings(made: Dashboard) -> None:
    made.with_row(Row("Top mappings"))
    for title, said, series in (
        (
            "Most avoidable faults",
            "The mappings with the most avoidable faults in this time.",
            _increase(_AVOIDABLE, "comm, kind, mapping"),
        ),
        (
            "Most entries made writable",
            "The mappings for which the optimization did most in this time.",
            _entries(_increase, "comm, kind, mapping"),
        ),
    ):
        made.with_panel(
            rows(
                title,
                said,
                NUMBER,
                now(f"topk(20, {series} > 0)"),
                value=title,
            )
        )


def _ourselves(made: Dashboard) -> None:
    made.with_row(Row("What tracing costs, and what it lost"))
    made.with_panel(
        lines(
            "Time in our BPF programs",
            "Of one CPU. Empty unless the kernel measures it: sysctl kernel.bpf_stats_enabled=1.",
            SHARE,
            over_time(
                f"rate(pte_trace_probe_seconds_total{_INSTANCE}[$__rate_interval])", "programs"
            ),
        )
    )
    made.with_panel(
        lines(
            "Time in the exporter",
            "Of one CPU: the whole process, and of that reading the kernel's tables.",
            SHARE,
            over_time(
                'rate(process_cpu_seconds_total{instance="$instance"}[$__rate_interval])'
                f" and on (instance) pte_trace_build_info{_INSTANCE}",
                "process",
            ),
            over_time(
                f"rate(pte_trace_reading_seconds_total{_INSTANCE}[$__rate_interval])", "readings"
            ),
        )
    )
    made.with_panel(
        lines(
            "Lost",
            "Events that found no room for their VMA, runs that the kernel skipped, readings"
            " that failed: 0 on a healthy machine.",
            NUMBER,
            *(
                over_time(f"increase({name}{_INSTANCE}[$__rate_interval])", said)
                for name, said in (
                    ("pte_trace_map_full_total", "no room"),
                    ("pte_trace_missed_runs_total", "missed runs"),
                    ("pte_trace_scrape_errors_total", "failed readings"),
                )
            ),
        )
    )
    made.with_panel(
        lines(
            "Room",
            "How full the kernel's table of VMAs was at a reading, and the groups of series; what"
            ' finds no room there is mapping="other".',
            SHARE,
            over_time(
                f"pte_trace_map_entries{_INSTANCE} / on (instance, map)"
                f" pte_trace_map_capacity{_INSTANCE}",
                "table of VMAs",
            ),
            over_time(
                f"pte_trace_series_groups{_INSTANCE} / pte_trace_series_groups_limit{_INSTANCE}",
                "groups of series",
            ),
            most=1,
        )
    )
    made.with_panel(
        lines(
            "Groups folded",
            "Groups of series (a process name, a kind and a mapping) that were added up under"
            ' mapping="other", as they came.',
            NUMBER,
            over_time(
                f"increase(pte_trace_series_folded_total{_INSTANCE}[$__rate_interval])", "folded"
            ),
        )
    )
    made.with_panel(
        lines(
            "Memory of the exporter",
            "Resident memory of the process.",
            BYTES,
            over_time(
                'process_resident_memory_bytes{instance="$instance"}'
                f" and on (instance) pte_trace_build_info{_INSTANCE}",
                "resident",
            ),
        )
    )
