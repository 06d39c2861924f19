"""The landing page in a real browser, headless Chromium."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.fleet import ROOT, fetch

SCREENSHOTS = ROOT / "build" / "screenshots"
PHONE = 390
_PNG_SIZE = slice(16, 24)


@pytest.fixture(scope="module")
def exporter() -> Iterator[str]:
    """The address of an exporter whose counts stand still."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.simulated", "--once", "serve"),
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
    numbers = dict(re.findall(r'id="([\w-]+)">([\d,.]+)', page))
    counted: dict[str, float] = {}
    for family in text_string_to_metric_families(fetch(f"{exporter}metrics")):
        for sample in family.samples:
            for name in (sample.name, f"{sample.name} {sample.labels.get('outcome')}"):
                counted[name] = counted.get(name, 0) + sample.value
    faults = "pte_trace_write_faults_total"
    assert float(numbers["faults"].replace(",", "")) == counted[faults] > 0
    for outcome in ("wp_reuse", "wp_copy", "wp_shared", "wp_uffd", "other", "error"):
        assert float(numbers[f"fault-{outcome}"]) == counted[f"{faults} {outcome}"]
    made = counted["pte_trace_ptes_made_writable_total"]
    avoidable = counted[f"{faults} wp_reuse"]
    assert float(numbers["writable"]) == made > 0
    assert float(numbers["avoidable"]) == avoidable > 0
    assert float(numbers["efficacy"]) == pytest.approx(100 * made / (made + avoidable), abs=0.05)
    assert float(numbers["changes"]) == counted["pte_trace_protection_changes_total"]


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
