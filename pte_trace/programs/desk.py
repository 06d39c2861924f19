"""A guest of the lab has its programs compiled by the machine that it runs on.

Under emulation the compiler takes fifteen times as long. Both see one directory: the guest puts a
text there under its key, the machine what it makes of it, or that it makes nothing of it. The guest
is told of the directory by its kernel's command line, which nobody else can write.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# What is compiled for the guest that asks for this key, None where that is not possible.
Answer = Callable[[str, bytes], bytes | None]

OPTION = "pte_trace.desk"
_COMMAND_LINE = Path("/proc/cmdline")
_EACH = 0.1
_PATIENCE = 120.0
_KEY = re.compile(r"[0-9a-f]{64}")


def ask(key: str, text: bytes) -> bytes | None:
    """What this guest's host compiles of *text*; None where there is none, or it does not.

    Nor is anything had by a user of the guest who may not write where the host reads.
    """
    with suppress(OSError):
        found = re.search(rf"\b{re.escape(OPTION)}=(\S+)", _COMMAND_LINE.read_text())
        return _told(Path(found[1]), key, text) if found else None
    return None


def _told(desk: Path, key: str, text: bytes) -> bytes | None:
    answer = desk / f"{key}.answer"
    _put(desk / f"{key}.text", text)
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if answer.exists():
            return answer.read_bytes() or None
        time.sleep(_EACH)
    return None


@contextmanager
def attended(desk: Path, answer: Answer) -> Iterator[None]:
    """Make *desk*, and answer there what guests ask until the body is done."""
    desk.mkdir()
    done = threading.Event()
    clerk = threading.Thread(target=_attend, args=(desk, answer, done), daemon=True)
    clerk.start()
    try:
        yield
    finally:
        done.set()
        clerk.join()


def _attend(desk: Path, answer: Answer, done: threading.Event) -> None:
    while not done.wait(_EACH):
        for text in desk.glob("*.text"):
            if _KEY.fullmatch(text.stem):
                told = answer(text.stem, text.read_bytes())
                _put(desk / f"{text.stem}.answer", told or b"")
            text.unlink()


def _put(path: Path, content: bytes) -> None:
    """There whole or not at all."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    os.replace(new, path)
