"""Write what follows from the declaration of the counters: bpf/counters.h, and
pte_trace/counted/layout.py, which is that and bpf/records.h parsed, so that no start has to.

python -m tests.layout [--check]
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import cffi

from pte_trace import counted
from pte_trace.counted import counters
from pte_trace.programs import program

LAYOUT = Path(counted.__file__).with_name("layout.py")
HEADER = Path(str(program.source_directory())) / "counters.h"
_MODULE = "pte_trace.counted.layout"
_TYPEDEFS = "typedef uint64_t __u64; typedef uint8_t __u8; typedef uint32_t __u32;"


def layout() -> str:
    """What belongs into LAYOUT: cffi's own format, for its out-of-line ABI mode."""
    ffi = cffi.FFI()
    ffi.cdef(_TYPEDEFS + counters.header() + program.source("records.h"))
    ffi.set_source(_MODULE, None)
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory) / LAYOUT.name
        with redirect_stdout(None):
            ffi.emit_python_code(str(made))
        text = made.read_text()
    return text.replace(
        "# auto-generated file", "# Written by `make layout` from bpf/records.h.", 1
    )


def main() -> int:
    written = {HEADER: counters.header(), LAYOUT: layout()}
    if "--check" not in sys.argv:
        for file, text in written.items():
            file.write_text(text)
        return 0
    stale = [file.name for file, text in written.items() if file.read_text() != text]
    if stale:
        print(f"Not what the counters' declaration makes it: {stale}: make layout", file=sys.stderr)
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
