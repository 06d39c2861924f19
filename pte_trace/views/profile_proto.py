"""pprof's profile.proto, as far as it is written here: declared for the protobuf runtime.

The numbers are those of github.com/google/pprof/blob/main/proto/profile.proto. No package on PyPI
that is kept up to date has it.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "perftools.profiles"
_INT64, _UINT64, _BOOL, _STRING = "int64", "uint64", "bool", "string"
# Of each message its fields by number: the type, the name; a list of it where a star is behind.
_MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "ValueType": {1: (_INT64, "type"), 2: (_INT64, "unit")},
    "Label": {1: (_INT64, "key"), 2: (_INT64, "str"), 3: (_INT64, "num"), 4: (_INT64, "num_unit")},
    "Sample": {1: (_UINT64, "location_id*"), 2: (_INT64, "value*"), 3: ("Label", "label*")},
    "Mapping": {
        1: (_UINT64, "id"),
        2: (_UINT64, "memory_start"),
        3: (_UINT64, "memory_limit"),
        4: (_UINT64, "file_offset"),
        5: (_INT64, "filename"),
        7: (_BOOL, "has_functions"),
    },
    "Line": {1: (_UINT64, "function_id"), 2: (_INT64, "line")},
    "Location": {
        1: (_UINT64, "id"),
        2: (_UINT64, "mapping_id"),
        3: (_UINT64, "address"),
        4: ("Line", "line*"),
    },
    "Function": {1: (_UINT64, "id"), 2: (_INT64, "name"), 3: (_INT64, "system_name")},
    "Profile": {
        1: ("ValueType", "sample_type*"),
        2: ("Sample", "sample*"),
        3: ("Mapping", "mapping*"),
        4: ("Location", "location*"),
        5: ("Function", "function*"),
        6: (_STRING, "string_table*"),
        10: (_INT64, "duration_nanos"),
        11: ("ValueType", "period_type"),
        12: (_INT64, "period"),
        13: (_INT64, "comment*"),
        14: (_INT64, "default_sample_type"),
    },
}


def _declared() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="pte_trace/profile.proto", package=_PACKAGE, syntax="proto3"
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    for message, fields in _MESSAGES.items():
        declared = file.message_type.add(name=message)
        for number, (kind, name) in fields.items():
            field = declared.field.add(name=name.rstrip("*"), number=number)
            field.label = kinds.LABEL_REPEATED if name.endswith("*") else kinds.LABEL_OPTIONAL
            if kind in _MESSAGES:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                field.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName(f"{_PACKAGE}.Profile")
    # That of Debian 12 is from before 4.22.
    if not hasattr(message_factory, "GetMessageClass"):
        return message_factory.MessageFactory().GetPrototype(found)
    return message_factory.GetMessageClass(found)


Profile: Any = _declared()
