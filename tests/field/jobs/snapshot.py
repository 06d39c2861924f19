"""QEMU saves a guest that runs on: its memory is write-protected by userfaultfd(2) meanwhile.

The guest is a boot sector that fills 512 KiB again and again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_FILL = bytes.fromhex(
    "b80010"  # begin:  mov ax, 0x1000
    "8ec0"  #   next:   mov es, ax
    "31ff"  #           xor di, di
    "b90080"  #         mov cx, 0x8000
    "f3ab"  #           rep stosw
    "050010"  #         add ax, 0x1000
    "3d0090"  #         cmp ax, 0x9000
    "72ef"  #           jb next
    "ebea"  #           jmp begin
)
_SNAPSHOTS = 3
_QEMU = (
    *("qemu-system-x86_64", "-accel", "tcg", "-m", "64", "-nodefaults", "-display", "none"),
    *("-qmp", "stdio"),
)


class Monitor:
    """QEMU's, that is asked by QMP."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._asked, self._answers = process.stdin, process.stdout
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: Any) -> Any:
        """What it answers. Ends the program where that is an error."""
        print(
            json.dumps({"execute": command, "arguments": arguments}), file=self._asked, flush=True
        )
        for line in self._answers:
            answer = json.loads(line)
            if "error" in answer:
                sys.exit(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]
        sys.exit("QEMU has ended.")

    def until(self, event: str, **data: str) -> None:
        for line in self._answers:
            told = json.loads(line)
            if told.get("event") == event and data.items() <= told.get("data", {}).items():
                return
        sys.exit("QEMU has ended.")


def main() -> None:
    with tempfile.NamedTemporaryFile() as disk:
        Path(disk.name).write_bytes(_FILL.ljust(510, b"\0") + b"\x55\xaa")
        drive = ("-drive", f"file={disk.name},format=raw,if=floppy")
        with subprocess.Popen(
            [*_QEMU, *drive], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            monitor = Monitor(process)
            names = ("background-snapshot", "events")
            wanted = [{"capability": name, "state": True} for name in names]
            monitor("migrate-set-capabilities", capabilities=wanted)
            for _ in range(_SNAPSHOTS):
                # The guest has to be at work, and QEMU says "completed" before it has put away all.
                time.sleep(1)
                monitor("migrate", uri="exec:cat >/dev/null")
                monitor.until("MIGRATION", status="completed")
            monitor("quit")


main()
