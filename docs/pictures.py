"""Make the pictures that README shows, of the recording docs/pictures/example.parquet.

python -m docs.pictures

The live view is rich's own SVG, the pages are as Chromium shows them. Without the recording it is
made first, in a guest with Debian 13's kernel. docs/pictures/shown.json has what each of them
shows; a test compares that with what would be shown today.
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
from io import StringIO
from pathlib import Path

from rich.console import Console

from pte_trace import __version__, lab
from pte_trace.counted.snapshot import Snapshot
from pte_trace.exporter import page as exporter_page
from pte_trace.exporter.groups import Groups
from pte_trace.exporter.reader import Reader
from pte_trace.recording.reading import Recording
from pte_trace.recording.replay import Replay
from pte_trace.recording.summary import summarize
from pte_trace.views import page as report_page
from pte_trace.views.live import View

PICTURES = Path(__file__).with_suffix("")
SHOWN = PICTURES / "shown.json"
_RECORDING = PICTURES / "example.parquet"
_RECORD = (
    "pte-trace record -i 2 -o /tmp/e.parquet -- docs/pictures/example.sh >&2; base64 /tmp/e.parquet"
)
_COLUMNS, _LINES = 168, 22
_INTERVALS = 4
_WIDTH, _REPORT_HEIGHT, _PAGE_HEIGHT = 1180, 1090, 1240


class _Once:
    """A source that has one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def read(self) -> Snapshot:
        return self._snapshot


def live() -> str:
    """The live view after some intervals, as SVG."""
    with Recording(_RECORDING) as recording:
        replay = Replay(recording)
        for _ in range(_INTERVALS):
            latest = replay.read()
    console = Console(
        record=True, width=_COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(View("faults", None).render(latest, _LINES))
    return console.export_svg(title="sudo pte-trace", unique_id="top")


def report() -> str:
    """The page of `report --html`."""
    with Recording(_RECORDING) as recording:
        return report_page.report(recording.metadata, summarize(recording), ended=True)


def page() -> str:
    """The exporter's, of a machine where this was all since its start."""
    with Recording(_RECORDING) as recording:
        replay = Replay(recording)
        replay.read()
        while not replay.processes_ended():
            replay.read()
        with Reader(_Once(replay.total()), Groups(200), print) as reader:
            shown = exporter_page.render(reader.state(), __version__)
    return shown.replace(socket.gethostname(), "node-7")


def words(page: str) -> str:
    """What a page or an SVG says, and how a page looks: what libraries add is not ours."""
    bare = re.sub(r"<(script|style)\b.*?</\1>|<defs>.*?</defs>|<[^>]+>", " ", page, flags=re.DOTALL)
    styles = (
        "" if "<svg" in page[:100] else " ".join(re.findall(r"<style>.*?</style>", page, re.DOTALL))
    )
    return " ".join(html.unescape(f"{bare} {styles}").split())


def shown() -> dict[str, str]:
    """The digest of what each picture shows."""
    made = {"top.svg": live(), "report.png": report(), "page.png": page()}
    return {name: hashlib.sha256(words(of).encode()).hexdigest() for name, of in made.items()}


def _record() -> None:
    print("Recording in a guest", file=sys.stderr)
    done = lab.run("trixie", ("sh", "-c", _RECORD), timeout=600)
    if done.returncode:
        sys.exit(done.stderr.decode(errors="replace"))
    _RECORDING.write_bytes(base64.b64decode(done.stdout))


def _photograph(of: str, name: str, height: int) -> None:
    # Not needed to say what is shown, and no part of what a test of that loads.
    from tests.e2e.browser import screenshot

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / f"{name}.html"
        file.write_text(of, "utf-8")
        picture = screenshot(file, name, _WIDTH, height)
    (PICTURES / f"{name}.png").write_bytes(picture.read_bytes())


def main() -> None:
    if not _RECORDING.exists():
        _record()
    (PICTURES / "top.svg").write_text(live(), "utf-8")
    _photograph(report(), "report", _REPORT_HEIGHT)
    _photograph(page(), "page", _PAGE_HEIGHT)
    SHOWN.write_text(json.dumps(shown(), indent=2) + "\n")


if __name__ == "__main__":
    main()
