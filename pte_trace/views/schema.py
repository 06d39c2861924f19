"""The JSON Schema of the document, from where its fields and its counters are declared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from pte_trace.counted.counters import FAMILIES, OUTCOME, PTES_NOT_INSPECTED, Family, Label
from pte_trace.views import shapes
from pte_trace.views.document import SCHEMA

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PRIMITIVE = {bool: "boolean", int: "integer", float: "number", str: "string", NoneType: "null"}
_COST = {"anyOf": [{"$ref": f"#/$defs/{shapes.Cost.__name__}"}, {"type": "null"}]}
Schema = dict[str, Any]


def schema() -> Schema:
    """Of one document; `top` and `record` write one for each interval."""
    shaped = _Shapes()
    shaped.of(shapes.Cost)
    document = shaped.of(shapes.Document)
    return {
        "$schema": _DIALECT,
        "title": f"pte-trace's JSON document, schema {SCHEMA}",
        **shaped.defined.pop(document["$ref"].rpartition("/")[2]),
        "$defs": dict(sorted(shaped.defined.items())),
    }


class _Shapes:
    """Schemas of types; those that have names are in `defined`."""

    def __init__(self) -> None:
        self.defined: dict[str, Schema] = {}

    def of(self, kind: Any) -> Schema:
        if hasattr(kind, "__metadata__"):
            made = self.of(kind.__origin__)
            for each in kind.__metadata__:
                made |= _said(each)
            return made
        if kind in _PRIMITIVE:
            return {"type": _PRIMITIVE[kind]}
        if is_typeddict(kind) or is_dataclass(kind):
            return self._named(kind)
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Literal:
            return {"enum": list(arguments)}
        if origin in (UnionType, Union):
            return {"anyOf": [self.of(each) for each in arguments]}
        if origin is NotRequired:
            return self.of(arguments[0])
        if origin is list:
            return {"type": "array", "items": self.of(arguments[0])}
        if origin is dict:
            return {"type": "object", "additionalProperties": self.of(arguments[1])}
        assert kind is Any, f"{kind} has no place in a JSON document"
        return {}

    def _named(self, kind: Any) -> Schema:
        name = kind.__name__
        if name not in self.defined:
            self.defined[name] = {}  # for one that holds itself
            hints = get_type_hints(kind, include_extras=True)
            fields = {field: self.of(hint) for field, hint in hints.items()} | dict(_counters(kind))
            optional = {field for field, hint in hints.items() if get_origin(hint) is NotRequired}
            self.defined[name] = {
                "description": (kind.__doc__ or "").partition("\n")[0],
                "type": "object",
                "properties": fields,
                "required": [field for field in fields if field not in optional],
                "additionalProperties": False,
            }
        return {"$ref": f"#/$defs/{name}"}


def _said(more: str | tuple[str, Any]) -> Schema:
    """What is noted beside a type: what it means, or a keyword of JSON Schema and its value."""
    if isinstance(more, str):
        return {"description": more}
    keyword, value = more
    return {keyword: list(value) if isinstance(value, tuple) else value}


def _counters(kind: Any) -> Iterator[tuple[str, Schema]]:
    """What a type has beside its fields: all counters, or what the totals of one are."""
    if kind in (shapes.Row, shapes.ProcessRow, shapes.VmaRow):
        yield from ((family.name, _family(family)) for family in FAMILIES)
        said = "What faults took, by outcome, of those that were timed. null: none was to be."
        yield "fault_ns", _by(OUTCOME, _COST, said)
    if kind is shapes.Health:
        yield PTES_NOT_INSPECTED.name, _family(PTES_NOT_INSPECTED)


def _family(family: Family) -> Schema:
    number: Schema = {"type": ["integer", "null"] if family.inspected else "integer", "minimum": 0}
    said = f"{family.said} In {family.unit}."
    if family.inspected:
        said += " null: none was looked at."
    if family.label is None or family.summed:
        return {**number, "description": said}
    if family.outer:
        return _by(family.outer, _by(family.label, number, family.label.said), said)
    return _by(family.label, number, said)


def _by(label: Label, each: Schema, said: str) -> Schema:
    values = {value.name: {**each, "description": value.said} for value in label.values}
    return {
        "description": said,
        "type": "object",
        "properties": values,
        "required": list(values),
        "additionalProperties": False,
    }
