"""Compile BPF programs with BCC: C on standard input, an image as JSON on standard output.

    python compiler.py < programs.c > image.json

A process of its own: what LLVM takes of memory ends with it, a signal need not wait for it, and
an environment that names other files does not reach it. It imports nothing else of pte-trace, and
nothing else of pte-trace imports BCC.

The image: ``{"tables": [{"name", "type", "key_size", "value_size", "entries", "flags"}],
"programs": [{"name", "code"}]}``, *code* in base64. Where an instruction loads the address of a
table, its immediate value is the table's position in the list. What clang has to say is on standard
error; exit status 1 where it does not compile.
"""

from __future__ import annotations

import base64
import ctypes
import json
import signal
import struct
import sys
from collections.abc import Mapping
from typing import Any

_FLAGS = (b"-Wno-duplicate-decl-specifier", b"-Wno-macro-redefined")
_PR_SET_PDEATHSIG = 1
_INSTRUCTION = struct.Struct("=BBhi")
_LOAD_64_BITS = 0x18
_PSEUDO_MAP_FD = 1
# How BCC's C functions are called that its Python does not call itself.
_BY_NUMBER = {
    "bpf_num_tables": ctypes.c_size_t,
    "bpf_table_name": ctypes.c_char_p,
    "bpf_table_fd_id": ctypes.c_int,
    "bpf_table_type_id": ctypes.c_int,
    "bpf_table_key_size_id": ctypes.c_size_t,
    "bpf_table_leaf_size_id": ctypes.c_size_t,
    "bpf_table_max_entries_id": ctypes.c_size_t,
    "bpf_table_flags_id": ctypes.c_int,
}


def main() -> int:
    # Nobody would read the image.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    from bcc.libbcc import lib

    for name, result in _BY_NUMBER.items():
        function = getattr(lib, name)
        function.restype = result
        function.argtypes = [ctypes.c_void_p] + [ctypes.c_size_t] * (not name.startswith("bpf_num"))
    flags = (ctypes.c_char_p * len(_FLAGS))(*_FLAGS)
    text = sys.stdin.buffer.read()
    module = lib.bpf_module_create_c_from_string(text, 0, flags, len(_FLAGS), True, None)
    if not module:
        return 1
    json.dump(_image(lib, module), sys.stdout)
    return 0


def _image(lib: Any, module: int) -> dict[str, list[dict[str, Any]]]:
    tables = range(lib.bpf_num_tables(module))
    positions = {lib.bpf_table_fd_id(module, table): table for table in tables}
    names = [lib.bpf_function_name(module, each) for each in range(lib.bpf_num_functions(module))]
    return {
        "tables": [
            {
                "name": lib.bpf_table_name(module, table).decode(),
                "type": lib.bpf_table_type_id(module, table),
                "key_size": lib.bpf_table_key_size_id(module, table),
                "value_size": lib.bpf_table_leaf_size_id(module, table),
                "entries": lib.bpf_table_max_entries_id(module, table),
                "flags": lib.bpf_table_flags_id(module, table),
            }
            for table in tables
        ],
        "programs": [
            {
                "name": name.decode(),
                "code": base64.b64encode(with_tables(_code(lib, module, name), positions)).decode(),
            }
            for name in names
        ],
    }


def _code(lib: Any, module: int, name: bytes) -> bytes:
    start, size = lib.bpf_function_start(module, name), lib.bpf_function_size(module, name)
    return ctypes.string_at(start, size)


def with_tables(code: bytes, tables: Mapping[int, int]) -> bytes:
    """*code* with other numbers for the tables whose addresses it loads."""
    changed = bytearray(code)
    offsets = iter(range(0, len(code), _INSTRUCTION.size))
    for offset in offsets:
        operation, registers, distance, value = _INSTRUCTION.unpack_from(code, offset)
        if operation == _LOAD_64_BITS:
            if registers >> 4 == _PSEUDO_MAP_FD:
                value = tables[value]
                _INSTRUCTION.pack_into(changed, offset, operation, registers, distance, value)
            next(offsets)  # the upper half, which is no instruction
    return bytes(changed)


if __name__ == "__main__":
    sys.exit(main())
