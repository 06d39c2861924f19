"""Compile BPF programs with BCC: C on standard input, an image as JSON on standard output.

    python compiler.py PARENT < programs.c > image.json

A process of its own, which ends with its parent: what LLVM takes of memory ends with it, a signal
need not wait for it, and an environment that names other files does not reach it. It imports
nothing else of pte-trace, and nothing else of pte-trace imports BCC.

The image: ``{"tables": [{"name", "type", "key_size", "value_size", "entries", "flags"}],
"programs": [{"name", "code", "functions"}]}``, *code* in base64. Where an instruction loads the
address of a table, its immediate value is the table's position in the list. *functions* are the
instructions at which one begins: the program itself, and those it calls. What clang has to say is
on standard error; exit status 1 where it does not compile.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import re
import signal
import struct
import sys
from collections.abc import Iterator, Mapping
from typing import Any

_FLAGS = (
    b"-Wno-duplicate-decl-specifier",
    b"-Wno-macro-redefined",
    b"-Werror=implicit-function-declaration",
)
_PR_SET_PDEATHSIG = 1
_INSTRUCTION = struct.Struct("=BBhi")
_LOAD_64_BITS = 0x18
_PSEUDO_MAP_FD, _PSEUDO_MAP_VALUE = 1, 2
_CALL = 0x85
_PSEUDO_CALL = 1
_PSEUDO_KERNEL_CALL = 2
# How functions are named that are no programs, with their numbers; and the first of the helpers, by
# the same numbers, that are called in their place (see bpf/access.h).
_FUNCTION = re.compile(rb"function_(\d+)__")
FIRST_LINKED = 0x7FFFFF00
# The same for functions of the kernel, by their ids in its BTF.
FIRST_OF_KERNEL = 0x40000000
# How the text numbers tables of one value, and the upper half of the number that is the first's
# address (see bpf/access.h).
_VALUE = re.compile(rb"^#define VALUE_(\w+)\s+(\d+)$", re.MULTILINE)
FIRST_VALUE = 0x7AB1E000
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
    # Nobody would read the image. Who has ended by now sends no signal.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        return 1
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
    values = {int(number): name for name, number in _VALUE.findall(text)}
    json.dump(_image(lib, module, values), sys.stdout)
    return 0


def _image(lib: Any, module: int, values: Mapping[int, bytes]) -> dict[str, list[dict[str, Any]]]:
    tables = range(lib.bpf_num_tables(module))
    positions = {lib.bpf_table_fd_id(module, table): table for table in tables}
    of_name = {lib.bpf_table_name(module, table): table for table in tables}
    addressed = {number: of_name[name] for number, name in values.items() if name in of_name}
    names = [lib.bpf_function_name(module, each) for each in range(lib.bpf_num_functions(module))]
    codes = {name: _rewritten(_code(lib, module, name), positions, addressed) for name in names}
    functions = {int(found[1]): codes[name] for name in names if (found := _FUNCTION.match(name))}
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
            _program(name, codes[name], functions) for name in names if not _FUNCTION.match(name)
        ],
    }


def _program(name: bytes, code: bytes, functions: Mapping[int, bytes]) -> dict[str, Any]:
    linked, starts = with_functions(code, functions)
    return {
        "name": name.decode(),
        "code": base64.b64encode(linked).decode(),
        "functions": starts,
    }


def _code(lib: Any, module: int, name: bytes) -> bytes:
    start, size = lib.bpf_function_start(module, name), lib.bpf_function_size(module, name)
    return ctypes.string_at(start, size)


def _rewritten(code: bytes, tables: Mapping[int, int], values: Mapping[int, int]) -> bytes:
    return with_kernel_functions(with_values(with_tables(code, tables), values))


def with_tables(code: bytes, tables: Mapping[int, int]) -> bytes:
    """*code* with other numbers for the tables whose addresses, or whose values', it loads."""
    changed = bytearray(code)
    for offset, (operation, registers, distance, value) in _instructions(code):
        if operation == _LOAD_64_BITS and registers >> 4 in (_PSEUDO_MAP_FD, _PSEUDO_MAP_VALUE):
            _INSTRUCTION.pack_into(changed, offset, operation, registers, distance, tables[value])
    return bytes(changed)


def with_values(code: bytes, tables: Mapping[int, int]) -> bytes:
    """*code* with the addresses of tables' values for numbers that stand for them."""
    changed = bytearray(code)
    for offset, (operation, registers, distance, value) in _instructions(code):
        if operation != _LOAD_64_BITS or registers >> 4:
            continue
        upper = offset + _INSTRUCTION.size
        number = _INSTRUCTION.unpack_from(code, upper)[-1] - FIRST_VALUE
        if number in tables:
            loaded = registers | _PSEUDO_MAP_VALUE << 4
            _INSTRUCTION.pack_into(changed, offset, operation, loaded, distance, tables[number])
            _INSTRUCTION.pack_into(changed, upper, 0, 0, 0, value)
    return bytes(changed)


def with_kernel_functions(code: bytes) -> bytes:
    """*code* with calls of functions of the kernel (BPF_PSEUDO_KFUNC_CALL in uapi/linux/bpf.h)."""
    changed = bytearray(code)
    for offset, (operation, _, _, value) in _instructions(code):
        if operation == _CALL and FIRST_OF_KERNEL <= value < FIRST_LINKED:
            called = (_CALL, _PSEUDO_KERNEL_CALL << 4, 0, value - FIRST_OF_KERNEL)
            _INSTRUCTION.pack_into(changed, offset, *called)
    return bytes(changed)


def with_functions(code: bytes, functions: Mapping[int, bytes]) -> tuple[bytes, list[int]]:
    """*code* with those of *functions* behind it that it calls, and where each begins there.

    A call says how far from the next instruction that is (BPF_PSEUDO_CALL in uapi/linux/bpf.h).
    """
    changed, starts = bytearray(code), [0]
    for number, function in functions.items():
        calls = [
            offset
            for offset, (operation, _, _, value) in _instructions(code)
            if operation == _CALL and value == FIRST_LINKED + number
        ]
        if calls:
            starts.append(len(changed) // _INSTRUCTION.size)
            changed += function
        for offset in calls:
            distance = starts[-1] - offset // _INSTRUCTION.size - 1
            _INSTRUCTION.pack_into(changed, offset, _CALL, _PSEUDO_CALL << 4, 0, distance)
    return bytes(changed), starts


def _instructions(code: bytes) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
    """Each instruction's offset, operation, registers, distance and value."""
    offsets = iter(range(0, len(code), _INSTRUCTION.size))
    for offset in offsets:
        operation, registers, distance, value = _INSTRUCTION.unpack_from(code, offset)
        yield offset, (operation, registers, distance, value)
        if operation == _LOAD_64_BITS:
            next(offsets)  # the upper half, which is no instruction


if __name__ == "__main__":
    sys.exit(main())
