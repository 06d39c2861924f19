"""The pages of `report` and `compare` in a real browser, as wide as a desktop and a phone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from pte_trace.counted.mapping import Event, Frame, Stack
from pte_trace.counted.snapshot import Kernel
from pte_trace.effort import Effort
from pte_trace.recording.comparison import Subject, compare
from pte_trace.recording.reading import Recording
from pte_trace.recording.summary import summarize
from pte_trace.views import compared, page
from tests.builders import counts, histogram, record, snapshot
from tests.e2e.browser import DESKTOP, PHONE, console, measure, screenshot
from tests.recordings import interval, metadata, recorded

WITH_STACKS = Effort(stacks=1)
WIDTHS = pytest.mark.parametrize("width", [DESKTOP, PHONE], ids=["desktop", "phone"])
_LAYOUT = """() => ({
    shown: document.documentElement.clientWidth,
    needed: document.documentElement.scrollWidth,
    plots: [...document.querySelectorAll(".js-plotly-plot")].map((plot) => {
        const frame = plot.getBoundingClientRect();
        const text = (selector) => {
            const found = plot.querySelector(selector);
            const box = found && found.getBoundingClientRect();
            const inside = box && box.left >= frame.left - 1 && box.right <= frame.right + 1;
            return found ? {said: found.textContent, inside} : null;
        };
        return {
            title: text(".gtitle"), x: text(".xtitle"), y: text(".ytitle"),
            drawn: plot.querySelectorAll(".point, .js-line, .box").length,
        };
    }),
})"""


def _stacks(draw: random.Random, most: int) -> tuple[Stack, ...]:
    """As deep as a stack may be."""
    names = [f"server::level_{depth}(std::string const&, int)" for depth in range(14)]
    outer = [
        Frame(0x4000 + depth, "/usr/bin/server", 0x10 + depth, f"{name}+0x2e")
        for depth, name in enumerate(names)
    ]
    return tuple(
        Stack(
            Event("write_faults", outcome, "user"),
            (Frame(number, "/lib/libc.so.6", number, f"write_{number}+0x1"), *outer),
            draw.randint(1, most),
        )
        for number, outcome in enumerate(("wp_reuse", "wp_copy", "other", "wp_reuse"))
    )


def _recording(directory: Path, name: str, runs: int, reuse: int, kernel: Kernel) -> Path:
    draw = random.Random(name)
    intervals = []
    for second in range(1, 61):
        records = [
            record(
                pid=100 + number,
                image=number,
                comm=f"server-{number}",
                start=0x7F0000000000 + (number << 28),
                end=0x7F0000000000 + (number << 28) + (1 << 20),
                name="/usr/lib/x86_64-linux-gnu/libgarbage-collector.so.7"
                if number % 3
                else "[anon]",
                counts=counts(
                    {"mprotect": 4, "numa_hint": 1},
                    {"mprotect": 2000},
                    {"wp_reuse": draw.randint(0, reuse), "wp_copy": 20, "other": 90},
                    writable={"mprotect": draw.randint(100, 900)},
                    readonly={"clean": 60, "shared": 20, "soft_dirty": 5},
                    costs={
                        "wp_reuse": histogram(*(draw.randint(400, 4000) for _ in range(9))),
                        "other": histogram(*(draw.randint(900, 20000) for _ in range(5))),
                    },
                ),
                stacks=_stacks(draw, reuse),
            )
            for number in range(12)
        ]
        shown = snapshot(*records, duration_s=1.0, effort=WITH_STACKS)
        intervals.append(interval(shown, second, 1 + second % runs))
    about = metadata(WITH_STACKS, command=("./server", "--collect"), kernel=kernel)
    return recorded(directory / f"{name}.parquet", intervals, about)


def _subject(path: Path) -> Subject:
    with Recording(path) as recording:
        return Subject(path.name, recording.metadata, summarize(recording), recording.ended)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("pages")
    one, two = (
        _subject(_recording(directory, name, 5, reuse, Kernel(f"6.1-{name}", name == "patched")))
        for name, reuse in (("patched", 40), ("unpatched", 900))
    )
    written = {
        "report": page.report(one.metadata, one.summary, ended=True),
        "compare": compared.page(compare([one, two])),
    }
    for name, text in written.items():
        (directory / f"{name}.html").write_text(text)
    return {name: directory / f"{name}.html" for name in written}


PAGES = pytest.mark.parametrize(("name", "plots"), [("report", 7), ("compare", 4)])


@PAGES
def test_nothing_is_said_on_the_console(pages: dict[str, Path], name: str, plots: int) -> None:
    assert console(pages[name]) == []


@PAGES
@WIDTHS
def test_every_plot_is_drawn_with_its_title_and_axes(
    pages: dict[str, Path], name: str, plots: int, width: int
) -> None:
    found = measure(pages[name], width, _LAYOUT)

    assert found["shown"] == width
    assert found["needed"] <= width, "one must scroll sideways"
    assert len(found["plots"]) == plots
    for plot in found["plots"]:
        assert plot["drawn"] > 0, plot
        for text in (plot["title"], plot["x"], plot["y"]):
            assert text["said"], plot
            assert text["inside"], plot


@PAGES
@WIDTHS
def test_screenshots_are_made(pages: dict[str, Path], name: str, plots: int, width: int) -> None:
    height = measure(pages[name], width, "() => Math.ceil(document.body.scrollHeight) + 40")
    picture = screenshot(pages[name], f"{name}-{width}", width, height).read_bytes()

    size: Sequence[int] = [int.from_bytes(picture[at : at + 4]) for at in (16, 20)]
    assert size == [width, height]
    assert len(picture) > 50_000


# What a person does with the keyboard alone, and what is so after each key.
_KEYS = """() => {
    const graph = document.querySelector(".flames");
    const tree = graph.querySelector("[role=tree]");
    const said = graph.querySelector("[aria-live]");
    const now = () => ({
        said: said.textContent,
        focused: tree.contains(document.activeElement)
            ? document.activeElement.querySelector("span").textContent : null,
        reachable: tree.querySelectorAll("[tabindex='0']").length,
        width: document.activeElement.getBoundingClientRect().width,
        shown: [...tree.querySelectorAll("[role=treeitem]")].filter((item) => item.offsetWidth)
            .length,
    });
    const press = (key) => {
        document.activeElement.dispatchEvent(
            new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
        return now();
    };
    tree.querySelector("[tabindex='0']").focus();
    const found = {tree: tree.getBoundingClientRect().width, begin: now()};
    found.down = press("ArrowDown");
    found.beside = press("ArrowRight");
    found.back = press("ArrowLeft");
    found.above_all = (press("ArrowUp"), press("ArrowUp"));
    press("ArrowDown");
    found.zoomed = press("Enter");
    found.all = press("Escape");
    tree.querySelectorAll("[role=treeitem]")[3].querySelector("span").click();
    found.tapped = now();
    graph.querySelector("button").click();
    found.again = now();
    return found;
}"""


@PAGES
@WIDTHS
def test_a_flame_graph_is_used_by_keyboard(
    pages: dict[str, Path], name: str, plots: int, width: int
) -> None:
    found = measure(pages[name], width, _KEYS)

    largest = found["down"]["focused"]
    assert found["begin"]["focused"] == "all"
    assert largest.startswith("server-")
    assert found["beside"]["focused"].startswith("server-")
    assert found["beside"]["focused"] != largest
    assert (found["back"]["focused"], found["above_all"]["focused"]) == (largest, "all")
    assert found["zoomed"]["focused"] == largest
    assert found["zoomed"]["said"].startswith(f"{largest}: ")
    assert found["zoomed"]["width"] == pytest.approx(found["tree"], abs=1)
    assert found["zoomed"]["shown"] < found["begin"]["shown"]
    assert found["tapped"]["width"] == pytest.approx(found["tree"], abs=1)
    for step in ("all", "again"):
        assert (found[step]["focused"], found[step]["shown"]) == ("all", found["begin"]["shown"])
    assert {each["reachable"] for each in found.values() if isinstance(each, dict)} == {1}


# Of each item where it is, and of what it is in.
_PLACES = """() => [...document.querySelectorAll(".flames [role=treeitem]")].map((item) => {
    const box = (of) => { const found = of.getBoundingClientRect();
        return {left: found.left, right: found.right, top: found.top, height: found.height}; };
    const outer = item.parentElement.closest("[role=treeitem]");
    return {
        label: item.getAttribute("aria-label"),
        place: box(item),
        bar: box(item.querySelector("span")),
        outer: outer && box(outer),
        above: outer && box(outer.querySelector("span")),
    };
})"""


@PAGES
@WIDTHS
def test_a_flame_graph_is_as_wide_as_its_numbers(
    pages: dict[str, Path], name: str, plots: int, width: int
) -> None:
    found = measure(pages[name], width, _PLACES)

    whole = found[0]["place"]["right"] - found[0]["place"]["left"]
    assert whole > 0.85 * width
    for each in found[1:]:
        assert each["place"]["left"] >= each["outer"]["left"] - 1
        assert each["place"]["right"] <= each["outer"]["right"] + 1
        # Below it, and high enough for a finger.
        assert each["bar"]["top"] >= each["above"]["top"] + each["above"]["height"] - 1
        assert each["bar"]["height"] >= 24
    if name == "report":
        shares = {
            each["label"]: (each["place"]["right"] - each["place"]["left"]) / whole
            for each in found
        }
        for label, share in shares.items():
            told = float(label.rpartition(", ")[2].partition("%")[0]) / 100
            assert share == pytest.approx(told, abs=0.02), label
