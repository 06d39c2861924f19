"""The footers of Parquet files with one row group each, made into the footer of one file.

Arrow's writer keeps about a kilobyte for each column of each row group until it ends, which for a
long recording is more than all the rest. A footer is one Thrift struct (FileMetaData in
parquet.thrift), in the compact protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_INTEGERS = (_I16, _I32, _I64)
_STOP = b"\0"

# Fields of FileMetaData, KeyValue, RowGroup, ColumnChunk and ColumnMetaData.
_NUM_ROWS, _ROW_GROUPS, _KEY_VALUES = 3, 4, 5
_KEY, _VALUE = 1, 2
_COLUMNS, _GROUP_OFFSET, _ORDINAL = 1, 5, 7
_CHUNK_OFFSET, _CHUNK_METADATA = 2, 3
_PAGE_OFFSETS = (9, 10, 11)

# A struct: its fields by number, each with its type. A list: the type of its elements, and they.
Struct = dict[int, tuple[int, Any]]


class Footer:
    """Collects row groups; they are kept as the few bytes they will be."""

    def __init__(self) -> None:
        self._first: Struct = {}
        self._groups = bytearray()
        self._number = 0
        self._rows = 0

    def add(self, footer: bytes, shift: int) -> None:
        """Add the row groups of a file whose content was moved by *shift* bytes."""
        fields = _Reader(footer).struct()
        self._rows += fields[_NUM_ROWS][1]
        for group in fields[_ROW_GROUPS][1][1]:
            _move(group, shift)
            # It has 16 bits, is for encryption, and need not be there.
            group.pop(_ORDINAL, None)
            self._groups += _struct(group)
            self._number += 1
        self._first = self._first or fields

    def serialize(self, key_values: Mapping[bytes, bytes]) -> tuple[bytes | bytearray, ...]:
        """The footer of the whole file, in parts: they are not copied into one."""
        pairs: list[Struct] = [
            {_KEY: (_BINARY, key), _VALUE: (_BINARY, value)} for key, value in key_values.items()
        ]
        fields = dict(self._first)
        fields[_NUM_ROWS] = (_I64, self._rows)
        fields[_KEY_VALUES] = (_LIST, (_STRUCT, pairs))
        before = {field: each for field, each in fields.items() if field < _ROW_GROUPS}
        after = {field: each for field, each in fields.items() if field > _ROW_GROUPS}
        groups = _header(_ROW_GROUPS - max(before), _ROW_GROUPS, _LIST)
        return (
            _fields(before) + groups + _list_header(_STRUCT, self._number),
            self._groups,
            _fields(after, _ROW_GROUPS) + _STOP,
        )


def first_list(begin: bytes) -> int:
    """How many elements the second field of a struct has, if it is a list after an integer.

    That is the schema's in FileMetaData. 0 where it is not so; *begin* may be cut after that.
    """
    try:
        reader = _Reader(begin)
        if reader.header(0) != (1, _I32):
            return 0
        reader.skip_integer()
        return reader.list_header()[1] if reader.header(1) == (2, _LIST) else 0
    except IndexError:
        return 0


def _move(group: Struct, shift: int) -> None:
    _add(group, _GROUP_OFFSET, shift)
    for chunk in group[_COLUMNS][1][1]:
        _add(chunk, _CHUNK_OFFSET, shift)
        for offset in _PAGE_OFFSETS:
            _add(chunk[_CHUNK_METADATA][1], offset, shift)


def _add(fields: Struct, field: int, shift: int) -> None:
    kind, offset = fields.get(field, (_I64, 0))
    if offset:
        fields[field] = (kind, offset + shift)


class _Reader:
    """Reads the compact protocol."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def struct(self) -> Struct:
        fields: Struct = {}
        field = 0
        while True:
            field, kind = self.header(field)
            if not kind:
                return fields
            fields[field] = (kind, kind == _TRUE if kind <= _FALSE else self._value(kind))

    def header(self, before: int) -> tuple[int, int]:
        """Number and type of the field that comes after *before*; type 0 at the struct's end."""
        header = self._byte()
        if not header:
            return before, 0
        return before + (header >> 4) if header >> 4 else self._integer(), header & 0x0F

    def skip_integer(self) -> None:
        self._varint()

    def list_header(self) -> tuple[int, int]:
        """The type of the elements and how many there are."""
        header = self._byte()
        return header & 0x0F, self._varint() if header >> 4 == 0x0F else header >> 4

    def _value(self, kind: int) -> Any:
        if kind in _INTEGERS:
            return self._integer()
        if kind == _BINARY:
            return self._take(self._varint())
        if kind == _STRUCT:
            return self.struct()
        if kind in (_LIST, _SET):
            element, size = self.list_header()
            return element, [self._value(element) for _ in range(size)]
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        assert kind == _DOUBLE, kind
        return struct.unpack("<d", self._take(8))[0]

    def _byte(self) -> int:
        self._place += 1
        return self._data[self._place - 1]

    def _take(self, size: int) -> bytes:
        self._place += size
        return self._data[self._place - size : self._place]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def _integer(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)


def _struct(fields: Struct) -> bytes:
    return _fields(fields) + _STOP


def _fields(fields: Struct, before: int = 0) -> bytes:
    """Fields of a struct; each is told by its distance from the one *before* it."""
    written = bytearray()
    for field, (kind, value) in sorted(fields.items()):
        if kind <= _FALSE:
            kind = _TRUE if value else _FALSE
        written += _header(field - before, field, kind)
        if kind > _FALSE:
            written += _value(kind, value)
        before = field
    return bytes(written)


def _header(step: int, field: int, kind: int) -> bytes:
    return bytes([step << 4 | kind]) if step < 16 else bytes([kind]) + _integer(field)


def _value(kind: int, value: Any) -> bytes:
    if kind in _INTEGERS:
        return _integer(value)
    if kind == _BINARY:
        return _varint(len(value)) + bytes(value)
    if kind == _STRUCT:
        return _struct(value)
    if kind in (_LIST, _SET):
        return _elements(*value)
    return struct.pack("<d", value) if kind == _DOUBLE else bytes([value])


def _elements(kind: int, elements: Sequence[Any]) -> bytes:
    values = (_value(kind, element) for element in elements)
    return _list_header(kind, len(elements)) + b"".join(values)


def _list_header(kind: int, size: int) -> bytes:
    return bytes([size << 4 | kind]) if size < 15 else bytes([0xF0 | kind]) + _varint(size)


def _integer(value: int) -> bytes:
    return _varint(value << 1 if value >= 0 else ~(value << 1))


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
