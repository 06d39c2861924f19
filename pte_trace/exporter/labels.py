"""--label: labels that are on each series."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pte_trace.counted.counters import LABELS
from pte_trace.errors import UsageError
from pte_trace.exporter.group import PLACE
from pte_trace.views.printable import printable

RESERVED_LABELS = frozenset(
    {
        *("comm", "kind", "mapping", "pid", *PLACE, "le", *(label.name for label in LABELS)),
        *("release", "optimization", "hook", "attached", "how", "map", "version", "quantile"),
        *("job", "instance"),
    }
)
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_FORM = "Give --label NAME=VALUE, as --label team=storage."


def parse(given: Iterable[str]) -> dict[str, str]:
    """Check NAME=VALUE pairs. Raises UsageError."""
    labels: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--label {printable(pair)} has no value.", _FORM)
        if not _NAME.fullmatch(name) or name.startswith("__"):
            raise UsageError(
                f"{printable(name) or 'An empty name'} is not a name for a label.",
                "A name has letters, digits and _, does not begin with a digit nor with __.",
            )
        if name in RESERVED_LABELS:
            raise UsageError(f"The label {name} has a meaning of its own here.", _FORM)
        if name in labels:
            raise UsageError(f"The label {name} is given twice.", _FORM)
        labels[name] = printable(value)
    return labels
