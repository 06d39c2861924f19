"""Stacks as a tree, and the tree on a page."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pte_trace.counted.flames import Node, faults, tree
from pte_trace.counted.mapping import Event, Frame, Stack
from pte_trace.views import flames, page
from tests.builders import record, snapshot

PATHS = st.dictionaries(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(tuple),
    st.tuples(st.integers(1, 100), st.integers(0, 100)),
    min_size=1,
)


def nodes(of: Node) -> list[Node]:
    return [of, *(each for child in of.children for each in nodes(child))]


@given(paths=PATHS, least=st.sampled_from([0.0, 0.05, 0.5]))
def test_no_fault_is_lost_in_a_tree(
    paths: dict[tuple[str, ...], tuple[float, ...]], least: float
) -> None:
    root = tree(paths, least)
    assert root.numbers == tuple(map(sum, zip(*paths.values(), strict=True)))
    for node in nodes(root):
        below = tuple(map(sum, zip(*(each.numbers for each in node.children), strict=True)))
        if below:
            assert all(part <= whole for part, whole in zip(below, node.numbers, strict=True))
        assert node.left_out or node.all >= least * root.all or node is root


def test_what_is_alike_from_the_outermost_on_is_one() -> None:
    root = tree({("p", "main", "f", "x"): (3.0,), ("p", "main", "g"): (4.0,), ("q",): (1.0,)})
    assert root == Node(
        "all",
        (8.0,),
        (
            Node(
                "p",
                (7.0,),
                (
                    Node(
                        "main",
                        (7.0,),
                        (Node("g", (4.0,)), Node("f", (3.0,), (Node("x", (3.0,)),))),
                    ),
                ),
            ),
            Node("q", (1.0,)),
        ),
    )


def test_what_is_too_little_to_be_seen_is_together() -> None:
    root = tree({("p",): (98.0,), ("q",): (1.0,), ("r",): (1.0,)}, 0.02)
    assert root.children == (Node("p", (98.0,)), Node("", (2.0,), left_out=2))


def test_a_path_leads_from_the_process_to_what_happened() -> None:
    frames = (Frame(1, "/p", 0x10, "f+0x2"), Frame(2, "/lib/l.so", 0x20), Frame(3, "[jit]"))
    reused = Stack(Event("write_faults", "wp_reuse", "user"), frames, 5)
    changed = Stack(Event("protection_changes", "mprotect"), frames, 9)
    assert faults(snapshot(record(stacks=(reused, changed)))) == {
        ("worker", "[jit]", "l.so+0x20", "f", "wp_reuse user [anon]"): 5
    }


def test_each_item_says_what_it_is_and_is_as_wide_as_its_number() -> None:
    made = flames.graph("Who", tree({("p", "f"): (3.0,), ("p",): (1.0,)}))
    assert 'aria-label="all: 4 write faults, 100.0% of all"' in made
    assert 'style="flex-grow:3000" aria-label="f: 3 write faults, 75.0% of all"' in made
    assert '<li role="presentation" style="flex-grow:1000"></li>' in made
    assert made.count('tabindex="0"') == 1
    assert made.count('role="treeitem"') == 3


@pytest.mark.parametrize(
    ("numbers", "colour"),
    [
        ((1.0, 1.0), "rgb(221 221 221)"),
        ((0.0, 2.0), "rgb(240 120 90)"),
        ((2.0, 0.0), "rgb(90 150 220)"),
    ],
)
def test_a_difference_has_its_colour(numbers: tuple[float, ...], colour: str) -> None:
    made = flames.difference("Two", tree({("p",): numbers}), ("A", "B"), "a run")
    assert f'background:{colour}">p<' in made
    assert f"A {numbers[0]:.4g}, B {numbers[1]:.4g} write faults a run" in made


def test_a_name_cannot_break_out_of_a_graph() -> None:
    evil = '"><script>document.title=1</script><b x="\n'
    made = page.flame_graphs([flames.graph(evil, tree({(evil,): (1.0,)}))])
    assert "<script>document" not in made
    assert "<b" not in re.sub(r"<button|<body", "", made)
    assert made.count("<script>") == 1
    assert page.flame_graphs([]) == ""
