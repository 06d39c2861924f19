"""Names that are safe to show: a process may call itself anything."""

from __future__ import annotations


def printable(text: str) -> str:
    """*text* with its control characters shown as escapes."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
