"""Make the pictures that README shows, of the recording docs/pictures/example.parquet.

python -m docs.pictures

The live view is rich's own SVG, the pages are as Chromium shows them: each once for a screen, once
for a phone. Of a dashboard there is what it asks for, answered by Prometheus (dashboard.json).
Without the recording it is made first, in a guest with Debian 13's kernel. docs/pictures/shown.json
has what each of them shows; a test compares that with what would be shown today.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any

from rich.console import Console

from dashboards import answered
from pte_trace import __version__, lab
from pte_trace.counted.snapshot import Snapshot
from pte_trace.exporter import page as exporter_page
from pte_trace.exporter.groups import Groups
from pte_trace.exporter.reader import Reader
from pte_trace.exporter.state import State
from pte_trace.recording.interval import Interval
from pte_trace.recording.reading import Recording
from pte_trace.recording.replay import Replay
from pte_trace.recording.summary import summarize
from pte_trace.views import page as report_page
from pte_trace.views.live import View

PICTURES = Path(__file__).with_suffix("")
SHOWN = PICTURES / "shown.json"
DASHBOARD = PICTURES / "dashboard.json"
_RECORDING = PICTURES / "example.parquet"
_RECORD = (
    "pte-trace record -i 2 -o /tmp/e.parquet -- docs/pictures/example.sh >&2; base64 /tmp/e.parquet"
)
_EVERY_S = 2
_COLUMNS, _LINES = {"top": 168, "top-phone": 62}, 26
_INTERVALS = 4
_SCREEN, _PHONE = 1180, 390
# Where each page ends in its picture: so far below the last of these.
_LAST = {
    "report": (".plots > div:nth-child(4)", 0),
    "page": ("#mappings tr:nth-child(6)", 1),
    "dashboard": (".plots:last-of-type", 16),
}


class _Replayed:
    """A source that has the interval of a *number*, and it is the time then that it ended."""

    def __init__(self, intervals: Sequence[Interval]) -> None:
        self.intervals = intervals
        self.number = 0

    def read(self) -> Snapshot:
        return self.intervals[self.number].snapshot

    def now(self) -> float:
        return self.intervals[self.number].time.timestamp()


def live(name: str) -> str:
    """The live view after some intervals, as SVG."""
    with Recording(_RECORDING) as recording:
        replay = Replay(recording)
        for _ in range(_INTERVALS):
            latest = replay.read()
    console = Console(
        record=True,
        width=_COLUMNS[name],
        file=StringIO(),
        force_terminal=True,
        color_system="truecolor",
    )
    console.print(View("faults", None).render(latest, _LINES, _COLUMNS[name]))
    return console.export_svg(title="sudo pte-trace", unique_id="top")


def report() -> str:
    """The page of `report --html`."""
    with Recording(_RECORDING) as recording:
        return report_page.report(recording.metadata, summarize(recording), ended=True)


def states() -> list[tuple[datetime, State]]:
    """What an exporter has at the end of each interval, where this is all since its start."""
    with Recording(_RECORDING) as recording:
        source = _Replayed(list(recording.intervals()))
    found = []
    with Reader(source, Groups(200), print, source.now) as reader:
        for number, interval in enumerate(source.intervals):
            source.number = number
            found.append((interval.time, reader.state()))
    return found


def page() -> str:
    """The exporter's."""
    shown = exporter_page.render(states()[-1][1], __version__)
    return shown.replace(socket.gethostname(), "node-7")


def dashboard() -> str:
    """What Prometheus said to the panels of a machine."""
    kept = json.loads(DASHBOARD.read_text())
    return answered.drawn("pte-trace: a machine", kept["panels"], kept["answers"])


def asked() -> dict[str, Any]:
    """What the answers rest on: the panels, and what Prometheus was given."""
    text = answered.exposed(states(), __version__)
    return {"given": hashlib.sha256(text.encode()).hexdigest(), "panels": answered.panels()}


def words(page: str) -> str:
    """What a page or an SVG says, and how a page looks: what libraries add is not ours."""
    bare = re.sub(r"<(script|style)\b.*?</\1>|<defs>.*?</defs>|<[^>]+>", " ", page, flags=re.DOTALL)
    styles = (
        "" if "<svg" in page[:100] else " ".join(re.findall(r"<style>.*?</style>", page, re.DOTALL))
    )
    return " ".join(html.unescape(f"{bare} {styles}").split())


PAGES: dict[str, Callable[[], str]] = {"report": report, "page": page, "dashboard": dashboard}


def shown() -> dict[str, str]:
    """The digest of what each picture shows."""
    made = {f"{name}.svg": live(name) for name in _COLUMNS}
    for name, of in PAGES.items():
        made |= dict.fromkeys((f"{name}.png", f"{name}-phone.png"), of())
    return {name: hashlib.sha256(words(of).encode()).hexdigest() for name, of in made.items()}


def _record() -> None:
    print("Recording in a guest", file=sys.stderr)
    done = lab.run("trixie", ("sh", "-c", _RECORD), timeout=600)
    if done.returncode:
        sys.exit(done.stderr.decode(errors="replace"))
    _RECORDING.write_bytes(base64.b64decode(done.stdout))


def _ask() -> None:
    """Have Prometheus answer what the dashboard asks for."""
    replayed = states()
    text = answered.exposed(replayed, __version__)
    (began, _), *_, (ended, _) = replayed
    said = answered.answers(text, began, ended, _EVERY_S)
    DASHBOARD.write_text(json.dumps({**asked(), "answers": said}, indent=1) + "\n")


@contextmanager
def _served(text: str) -> Iterator[str]:
    """The address of a page: the exporter's asks for itself again."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def _photograph(name: str, text: str) -> None:
    # Not needed to say what is shown, and no part of what a test of that loads.
    from tests.e2e.browser import measure, screenshot

    with tempfile.TemporaryDirectory() as directory, _served(text) as address:
        file = Path(directory) / f"{name}.html"
        file.write_text(text, "utf-8")
        last, margin = _LAST[name]
        bottom = f"""() => Math.ceil(
            document.querySelector("{last}").getBoundingClientRect().bottom)"""
        for suffix, width in (("", _SCREEN), ("-phone", _PHONE)):
            height = measure(file, width, bottom) + margin
            picture = screenshot(file, f"{name}{suffix}", width, height, address=address)
            (PICTURES / f"{name}{suffix}.png").write_bytes(picture.read_bytes())


def main() -> None:
    if not _RECORDING.exists():
        _record()
    for name in _COLUMNS:
        (PICTURES / f"{name}.svg").write_text(live(name), "utf-8")
    _ask()
    for name, of in PAGES.items():
        _photograph(name, of())
    SHOWN.write_text(json.dumps(shown(), indent=2) + "\n")


if __name__ == "__main__":
    main()
