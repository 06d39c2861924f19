"""Names that are safe to show: a process may call itself anything."""

from __future__ import annotations


def printable(text: str) -> str:
    """*text* with its control characters shown as escapes."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def cell(text: str) -> str:
    """*text* as a cell of CSV: printable, and with an apostrophe where a spreadsheet would take it
    for a formula.
    """
    shown = printable(text)
    return f"'{shown}" if shown[:1] in ("=", "+", "-", "@") else shown
