"""Write pte_trace/layout.py: bpf/records.h, parsed, so that no start has to parse it.

python -m tests.layout [--check]
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import cffi

from pte_trace import program

FILE = Path(program.__file__).with_name("layout.py")
_MODULE = "pte_trace.layout"
_TYPEDEFS = "typedef uint64_t __u64; typedef uint32_t __u32;"


def generated() -> str:
    """What belongs into FILE: cffi's own format, for its out-of-line ABI mode."""
    ffi = cffi.FFI()
    ffi.cdef(_TYPEDEFS + program.source("records.h"))
    ffi.set_source(_MODULE, None)
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory) / FILE.name
        with redirect_stdout(None):
            ffi.emit_python_code(str(made))
        text = made.read_text()
    return text.replace(
        "# auto-generated file", "# Written by `make layout` from bpf/records.h.", 1
    )


def main() -> int:
    if "--check" not in sys.argv:
        FILE.write_text(generated())
    elif FILE.read_text() != generated():
        print(f"{FILE.name} is not what bpf/records.h makes it: make layout", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
