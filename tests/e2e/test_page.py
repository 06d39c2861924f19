"""The landing page in a real browser, headless Chromium."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pte_trace.counted.counters import AVOIDABLE
from tests.e2e.fleet import ROOT, fetch

SCREENSHOTS = ROOT / "build" / "screenshots"
PHONE = 390
_PNG_SIZE = slice(16, 24)


@pytest.fixture(scope="module")
def exporter() -> Iterator[str]:
    """The address of an exporter whose counts stand still."""
    with serving("--once") as address:
        yield address


@contextmanager
def serving(*how: str) -> Iterator[str]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.simulated", *how, "serve"),
            "--listen",
            "127.0.0.1:0",
        ],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stderr is not None
    try:
        yield process.stderr.readline().split()[-1]
    finally:
        process.kill()
        process.communicate()


def chromium(*arguments: str) -> str:
    done = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--disable-dev-shm-usage", "--virtual-time-budget=3000", *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def screenshot(address: str, name: str, width: int, height: int) -> Path:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    path.unlink(missing_ok=True)
    chromium(f"--screenshot={path}", f"--window-size={width},{height}", address)
    return path


def framed(address: str, directory: Path) -> str:
    """A local page that has the exporter's in a frame as wide as a phone, and measures it."""
    page = html.escape(fetch(address), quote=True)
    path = directory / "phone.html"
    path.write_text(
        "<!doctype html><meta charset=utf-8><title>?</title><body style='margin:0'>"
        f'<iframe srcdoc="{page}" width={PHONE} height=2400 style=\'border:0\' onload="'
        "const root = this.contentDocument.documentElement;"
        " const small = [...root.querySelectorAll('body *')].filter("
        " each => parseFloat(getComputedStyle(each).fontSize) < 12).length;"
        " const cut = [...root.querySelectorAll('.scroll')].filter("
        " each => each.scrollWidth > each.clientWidth).length;"
        " document.title = [root.clientWidth, root.scrollWidth, small, cut].join(' ')\"></iframe>"
    )
    return path.as_uri()


def test_the_numbers_are_those_of_the_metrics(exporter: str) -> None:
    page = chromium("--dump-dom", exporter)
    shown = numbers(page)
    counted: dict[str, float] = {}
    for family in text_string_to_metric_families(fetch(f"{exporter}metrics")):
        for sample in family.samples:
            labels = sample.labels.get("outcome"), sample.labels.get("protected_by")
            for name in (
                sample.name,
                f"{sample.name} {labels[0]}",
                f"{sample.name} {labels[0]} {labels[1]}",
            ):
                counted[name] = counted.get(name, 0) + sample.value
    faults = "pte_trace_write_faults_total"
    assert float(shown["faults"].replace(",", "")) == counted[faults] > 0
    for outcome in ("wp_reuse", "wp_copy", "wp_shared", "wp_uffd", "other", "error"):
        assert float(shown[f"fault-{outcome}"]) == counted[f"{faults} {outcome}"]
    made = counted["pte_trace_ptes_made_writable_total"]
    avoidable = sum(counted[f"pte_trace_wp_faults_total wp_reuse {each}"] for each in AVOIDABLE)
    assert float(shown["writable"]) == made > 0
    assert float(shown["avoidable"]) == avoidable > 0
    assert float(shown["efficacy"]) == pytest.approx(100 * made / (made + avoidable), abs=0.05)
    assert float(shown["changes"]) == counted["pte_trace_protection_changes_total"]


def test_a_screenshot_is_made(exporter: str) -> None:
    picture = screenshot(exporter, "page", 1000, 1400).read_bytes()
    width, height = (int.from_bytes(picture[_PNG_SIZE][at : at + 4]) for at in (0, 4))
    assert (width, height) == (1000, 1400)
    assert len(picture) > 20_000


def test_it_is_readable_on_a_phone(exporter: str, tmp_path: Path) -> None:
    address = framed(exporter, tmp_path)
    screenshot(address, "phone", PHONE, 2400)
    title = re.search(r"<title>([\d ]+)</title>", chromium("--dump-dom", address))
    assert title
    shown, needed, small, cut = map(int, title[1].split())
    assert shown == PHONE
    assert needed <= shown, "one must scroll sideways"
    assert small == 0
    assert cut == 0, "a table is wider than the screen"


def test_it_updates_itself() -> None:
    """Under the policy that it is served with, which lets nothing else run."""
    with serving() as address:
        before = int(numbers(fetch(address))["faults"].replace(",", ""))
        shown = chromium("--dump-dom", "--virtual-time-budget=13000", address)
    assert "Updated at" in shown
    assert int(numbers(shown)["faults"].replace(",", "")) > before


def test_it_says_that_the_exporter_does_not_answer(tmp_path: Path) -> None:
    with serving("--once") as address:
        saved = tmp_path / "page.html"
        saved.write_text(fetch(address))
    # A file is no exporter's answer.
    shown = chromium("--dump-dom", "--virtual-time-budget=13000", saved.as_uri())
    assert "The exporter does not answer; these numbers are old." in shown


def test_its_table_is_sorted_and_filtered(exporter: str, tmp_path: Path) -> None:
    shown = driven(
        exporter,
        tmp_path,
        """
        const names = () => [...page.querySelectorAll("#mappings tr")]
            .filter((row) => !row.hidden).map((row) => row.cells[3].textContent);
        const head = (name) => [...page.querySelectorAll("th button")]
            .find((each) => each.textContent === name);
        const said = [names()];
        head("Faults").click(); said.push(names());
        head("Faults").click(); said.push(names());
        said.push(head("Faults").closest("th").ariaSort);
        const filter = page.getElementById("filter");
        filter.value = "WORKER"; filter.dispatchEvent(new Event("input")); said.push(names());
        filter.value = "no such"; filter.dispatchEvent(new Event("input")); said.push(names());
        return said;
        """,
    )
    first, down, up, order, some, none = shown
    assert len(first) > 1
    assert down == sorted(first, key=int, reverse=True)
    assert up == sorted(first, key=int)
    assert order == "ascending"
    assert 0 < len(some) < len(first)
    assert none == []


def test_all_that_can_be_done_can_be_done_by_keyboard(exporter: str, tmp_path: Path) -> None:
    reached = driven(
        exporter,
        tmp_path,
        """
        const able = [...page.querySelectorAll("a[href], button, input")];
        return able.map((each) => { each.focus(); return page.activeElement === each; });
        """,
    )
    assert len(reached) >= 3 + 1 + 7
    assert all(reached)


def driven(address: str, directory: Path, script: str) -> Any:
    """What *script* returns, which has the exporter's page as `page`."""
    page = html.escape(fetch(address), quote=True)
    path = directory / "driven.html"
    path.write_text(
        "<!doctype html><meta charset=utf-8><title>?</title>"
        f'<iframe srcdoc="{page}" width=1000 height=1000></iframe><script>'
        'addEventListener("load", () => { const page = document.querySelector("iframe")'
        ".contentDocument; document.title = JSON.stringify((() => {"
        f"{script}"
        "})()); });</script>"
    )
    title = re.search(r"<title>(.*?)</title>", chromium("--dump-dom", path.as_uri()), re.DOTALL)
    assert title
    return json.loads(html.unescape(title[1]))


def numbers(page: str) -> dict[str, str]:
    return dict(re.findall(r'id="([\w-]+)">([\d,.]+)', page))
