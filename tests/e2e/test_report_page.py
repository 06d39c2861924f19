"""The pages of `report` and `compare` in a real browser, as wide as a desktop and a phone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from pte_trace.recording.comparison import Subject, compare
from pte_trace.recording.reading import Recording
from pte_trace.recording.summary import summarize
from pte_trace.snapshot import Kernel
from pte_trace.views import compared, page
from tests.builders import counts, histogram, record, snapshot
from tests.e2e.browser import DESKTOP, PHONE, console, measure, screenshot
from tests.recordings import interval, metadata, recorded

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
            )
            for number in range(12)
        ]
        intervals.append(interval(snapshot(*records, duration_s=1.0), second, 1 + second % runs))
    about = metadata(command=("./server", "--collect"), kernel=kernel)
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
