"""Flame graphs for a page: lists in lists, each as wide as its number. Nothing is fetched.

Drawn by the browser without a script, which is there to look closer, by mouse, touch or keyboard.
"""

from __future__ import annotations

import html
import zlib
from collections.abc import Callable
from importlib.resources import files

from pte_trace.counted.flames import Node
from pte_trace.views.printable import printable
from pte_trace.views.sentences import several

# What is narrower than this share of the whole is not seen on any screen.
LEAST = 1 / 2000
_HELP = (
    "The process is above, below it come its functions, the innermost last, and what happened:"
    " outcome, who wrote, mapping. A tap, a click or Enter on one shows it as wide as the page;"
    " arrow keys lead from one to the other, Escape or the button back to all."
)
_MORE, _FEWER, _SAME = (240, 120, 90), (90, 150, 220), (221, 221, 221)

_Says = Callable[[Node], str]


def style() -> str:
    return f"<style>\n{_text('flames.css')}</style>"


def script() -> str:
    """Comes after all graphs of the page."""
    return f"<script>\n{_text('flames.js')}</script>"


def _text(name: str) -> str:
    return (files("pte_trace.views") / name).read_text("utf-8")


def graph(title: str, root: Node, *, notes: str = "") -> str:
    """The tree of one recording."""

    def says(node: Node) -> str:
        return f"{several(round(node.all), 'write fault')}, {node.all / root.all:.1%} of all"

    return _graph(title, f"{notes} {_HELP}".strip(), root, says, _warm)


def difference(title: str, root: Node, names: tuple[str, str], per: str) -> str:
    """The tree of two recordings, whose numbers are of each *per*."""
    notes = (
        f"As wide as both together. Red: more in {names[1]} than in {names[0]}, blue: fewer, and"
        f" the stronger the colour the larger the part that differs. {_HELP}"
    )

    def says(node: Node) -> str:
        one, other = node.numbers
        return (
            f"{names[0]} {one:,.4g}, {names[1]} {other:,.4g} write faults {per}:"
            f" {other - one:+,.4g}"
        )

    return _graph(title, notes, root, says, _by_difference)


def _graph(title: str, notes: str, root: Node, says: _Says, colour: Callable[[Node], str]) -> str:
    name = html.escape(title)
    return (
        f'<section class="flames"><h2>{name}</h2><p>{html.escape(notes)}</p>'
        f'<p aria-live="polite">{html.escape(_label(root, says))}</p>'
        f'<ul role="tree" aria-label="{name}">{_item(root, says, colour, first=True)}</ul>'
        "<p><button>Show all</button></p></section>"
    )


def _label(node: Node, says: _Says) -> str:
    return f"{_name(node)}: {says(node)}"


def _name(node: Node) -> str:
    return several(node.left_out, "smaller one") if node.left_out else printable(node.name)


def _item(node: Node, says: _Says, colour: Callable[[Node], str], *, first: bool = False) -> str:
    # Those of a flex box that add up to less than 1 would not fill it.
    width = f"flex-grow:{1000 * node.all:.10g}"
    below = "".join(_item(child, says, colour) for child in node.children)
    if below:
        rest = 1000 * (node.all - sum(child.all for child in node.children))
        spare = f'<li role="presentation" style="flex-grow:{rest:.10g}"></li>' if rest > 1 else ""
        below = f'<ul role="group">{below}{spare}</ul>'
    return (
        f'<li role="treeitem" tabindex="{0 if first else -1}" style="{width}"'
        f' aria-label="{html.escape(_label(node, says))}">'
        f'<span style="background:{colour(node)}">{html.escape(_name(node))}</span>{below}</li>'
    )


def _warm(node: Node) -> str:
    """The same for the same name, wherever it is."""
    if node.left_out:
        return "#ddd"
    hashed = zlib.crc32(node.name.encode("utf-8", "surrogatepass"))
    return f"hsl({18 + hashed % 37} {75 + hashed // 37 % 20}% {72 + hashed // 999 % 12}%)"


def _by_difference(node: Node) -> str:
    one, other = node.numbers
    share = (other - one) / node.all if node.all else 0.0
    towards = _MORE if share > 0 else _FEWER
    mixed = (
        round(same + abs(share) * (end - same)) for same, end in zip(_SAME, towards, strict=True)
    )
    return f"rgb({' '.join(map(str, mixed))})"
