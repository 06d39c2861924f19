"""Pages in a real browser, headless Chromium: what it says, shows and measures."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
DESKTOP, PHONE = 1280, 390
_PROBE = """
<script>
addEventListener("load", () => setTimeout(() => parent.postMessage((%s)(), "*"), 500));
</script>
"""
_FRAME = """<!doctype html><meta charset=utf-8><title>?</title><body style="margin:0">
<script>
addEventListener("message", (event) => document.title = JSON.stringify(event.data));
</script>
<iframe src="%s" width=%d height=%d style="border:0"></iframe>
"""


def _chromium(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--disable-dev-shm-usage", "--enable-logging=stderr"),
            *("--virtual-time-budget=10000", "--timeout=60000", *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )


def console(page: Path) -> list[str]:
    """What the page said on its console, errors among it."""
    said = _chromium("--dump-dom", page.as_uri()).stderr
    return [line for line in said.splitlines() if "CONSOLE" in line]


def measure(page: Path, width: int, function: str) -> Any:
    """What the JavaScript *function* returns in the page, shown so wide."""
    probed = page.with_suffix(f".{width}.probed.html")
    probed.write_text(page.read_text() + _PROBE % function)
    shown = _chromium("--dump-dom", _framed(probed, width).as_uri()).stdout
    title = re.search(r"<title>(.*?)</title>", shown, re.DOTALL)
    assert title is not None
    return json.loads(title[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))


def screenshot(
    page: Path, name: str, width: int, height: int, *, address: str | None = None
) -> Path:
    """A picture of the page, shown so wide; where it is served, of that."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    picture = SCREENSHOTS / f"{name}.png"
    picture.unlink(missing_ok=True)
    framed = _framed(page, width, height, address).as_uri()
    _chromium(f"--screenshot={picture}", f"--window-size={width},{height}", framed)
    return picture


def _framed(page: Path, width: int, height: int = 4000, address: str | None = None) -> Path:
    """A page with *page* in a frame: Chromium's own window is never as narrow as a phone."""
    frame = page.with_suffix(f".{width}.html")
    frame.write_text(_FRAME % (address or page.name, width, height))
    return frame
