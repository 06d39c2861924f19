"""What both dashboards are made of."""

from __future__ import annotations

from string import ascii_uppercase
from typing import Protocol, TypeVar

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "pte-trace"
MACHINE, FLEET = "pte-trace-machine", "pte-trace-fleet"

PER_SECOND = "cps"
SHARE = "percentunit"
SECONDS = "s"
CPUS = "suffix: CPUs"
NUMBER = "short"
BYTES = "bytes"


class _Sized(Protocol):
    def span(self, columns: int) -> object: ...
    def height(self, rows: int) -> object: ...
    def title(self, said: str) -> object: ...
    def description(self, said: str) -> object: ...
    def datasource(self, source: DataSourceRef) -> object: ...
    def unit(self, unit: str) -> object: ...


_Panel = TypeVar("_Panel", bound=_Sized)


def _framed(panel: _Panel, title: str, said: str, unit: str, span: int, height: int) -> _Panel:
    panel.title(title)
    panel.description(said)
    panel.datasource(DATASOURCE)
    panel.unit(unit)
    panel.span(span)
    panel.height(height)
    return panel


def over_time(expr: str, legend: str = "") -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expr).legend_format(legend).range()


def now(expr: str, legend: str = "") -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expr).legend_format(legend).instant()


def number(
    title: str,
    said: str,
    unit: str,
    query: prometheus.Dataquery,
    *,
    bad_above: float | None = None,
    span: int = 4,
) -> stat.Panel:
    """One number, red from *bad_above* on."""
    panel = _framed(stat.Panel(), title, said, unit, span, 4)
    panel.with_target(query.ref_id("A")).graph_mode(BigValueGraphMode.NONE).no_value("no data")
    if bad_above is None:
        return panel.color_mode(BigValueColorMode.NONE)
    steps = [Threshold(color="text"), Threshold(value=bad_above, color="red")]
    return panel.color_mode(BigValueColorMode.VALUE).thresholds(
        dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
    )


def names(title: str, said: str, query: prometheus.Dataquery, *, span: int = 8) -> stat.Panel:
    """The legend of each series, not its value."""
    panel = _framed(stat.Panel(), title, said, NUMBER, span, 4)
    return (
        panel.with_target(query.ref_id("A"))
        .text_mode(BigValueTextMode.NAME)
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.NONE)
    )


def lines(
    title: str,
    said: str,
    unit: str,
    *queries: prometheus.Dataquery,
    stacked: bool = False,
    most: float | None = None,
    span: int = 12,
) -> timeseries.Panel:
    panel = _framed(timeseries.Panel(), title, said, unit, span, 8)
    for letter, query in zip(ascii_uppercase, queries, strict=False):
        panel.with_target(query.ref_id(letter))
    panel.min(0).fill_opacity(10)
    if most is not None:
        panel.max(most)
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(40)
    return panel.legend(
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    ).tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))


def durations(title: str, said: str, expr: str) -> heatmap.Panel:
    """*expr* gives the buckets of a histogram in seconds, by le."""
    panel = _framed(heatmap.Panel(), title, said, NUMBER, 12, 8)
    return (
        panel.with_target(over_time(expr, "{{le}}").ref_id("A").format(PromQueryFormat.HEATMAP))
        .y_axis(heatmap.YAxisConfig().unit(SECONDS))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .fill("dark-orange")
            .exponent(0.5)
            .steps(64)
        )
        .show_tooltip()
    )


def rows(
    title: str,
    said: str,
    unit: str,
    query: prometheus.Dataquery,
    *,
    hidden: tuple[str, ...] = (),
    value: str = "Value",
    links: dict[str, tuple[str, str]] | None = None,
    span: int = 12,
) -> table.Panel:
    """The series as rows; *value* heads their values, *links* lead from a column (title, url)."""
    panel = _framed(table.Panel(), title, said, unit, span, 9)
    panel.show_header(True).with_target(query.ref_id("A").format(PromQueryFormat.TABLE))
    panel.with_transformation(
        DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": dict.fromkeys(("Time", *hidden), True),
                "renameByName": {"Value": value},
            },
        )
    )
    for column, (link_title, url) in (links or {}).items():
        link = {"title": link_title, "url": url}
        panel.override_by_name(column, [DynamicConfigValue(id_val="links", value=[link])])
    return panel


def query_variable(name: str, label: str, values: str, *, several: bool) -> dashboard.QueryVariable:
    variable = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"query": values, "refId": name})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
    return variable.multi(True).include_all(True).all_value(".*") if several else variable


def page(uid: str, title: str, said: str, *variables: Builder) -> dashboard.Dashboard:  # type: ignore[type-arg]
    """An empty dashboard with a choice of data source, *variables* and links to the others."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(said)
        .tags([TAG])
        .time("now-1h", "now")
        .refresh("30s")
        .link(
            dashboard.DashboardLink("pte-trace")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .keep_time(True)
            .as_dropdown(False)
        )
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
    )
    for variable in variables:
        made.with_variable(variable)
    return made
