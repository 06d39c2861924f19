"""Every JSON document that is written while tests run is one of the published schema.

With `install` this is so in a process: in that of the tests, and in those of tests.simulated.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

# Rows beyond these are of one kind with those before.
_ROWS = 50
_MANY = ("vmas", "processes", "explanations")


@cache
def _validator() -> Draft202012Validator:
    # Most programs that are tested write none, and what they take is measured.
    from jsonschema import Draft202012Validator

    from pte_trace.views.schema import schema

    return Draft202012Validator(schema())


def check(document: dict[str, Any]) -> None:
    """Raises jsonschema.ValidationError. Of many rows the first are looked at."""
    few = {name: document[name][:_ROWS] for name in _MANY if name in document}
    # As a reader of the JSON has it.
    _validator().validate(json.loads(_dumps({**document, **few})))


def _is_document(written: object) -> bool:
    return isinstance(written, dict) and {"schema", "totals"} <= written.keys()  # not of `bench`


_dump, _dumps = json.dump, json.dumps


def _checked_dump(written: Any, *arguments: Any, **options: Any) -> None:
    if _is_document(written):
        check(written)
    _dump(written, *arguments, **options)


def _checked_dumps(written: Any, *arguments: Any, **options: Any) -> str:
    if _is_document(written):
        check(written)
    return _dumps(written, *arguments, **options)


def install() -> None:
    """From now on in this process."""
    json.dump = _checked_dump  # type: ignore[assignment]
    json.dumps = _checked_dumps  # type: ignore[assignment]
