"""Types of a real kernel, damaged: they are refused in a sentence, or answered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pte_trace.errors import HostError
from pte_trace.host import facts
from pte_trace.kernel import kernel_types
from pte_trace.kernel.btf import _COMPOSITES, _FUNC, BTF, VMLINUX, BTFError
from tests.btf_writer import HEADER_SIZE, kernel_btf
from tests.fuzz.examples import one_of

pytestmark = pytest.mark.timeout(3600)


def real() -> bytes:
    """This machine's, and what the tests write where it has none."""
    try:
        return VMLINUX.read_bytes()
    except OSError:
        return kernel_btf()


REAL, WRITTEN = real(), kernel_btf()


def asked_for(data: bytes) -> Iterator[range]:
    """Where the types are that are asked for: each with its first members."""
    btf = BTF(data)
    for names, kinds in ((kernel_types.NEEDED, _COMPOSITES), (facts.TRACED_FUNCTIONS, {_FUNC})):
        for name in names:
            for position in btf._named(name, kinds):
                begin = HEADER_SIZE + 4 * position
                yield range(begin, min(begin + 512, len(data)))


def places(data: bytes) -> st.SearchStrategy[int]:
    """Mostly where something is asked for: of a real kernel's bytes hardly any is."""
    ranges = list(asked_for(data))
    somewhere = st.integers(0, len(data) - 1)
    return st.sampled_from(ranges).flatmap(st.sampled_from) | somewhere if ranges else somewhere


CHANGES = {"real": st.tuples(places(REAL), st.binary(min_size=1, max_size=8))}
CHANGES["written"] = st.tuples(places(WRITTEN), st.binary(min_size=1, max_size=8))


def damaged(data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    found = bytearray(data)
    for place, new in changes:
        found[place : place + len(new)] = new
    return bytes(found[: len(data)])


def refused_or_answered(data: bytes) -> None:
    try:
        btf = BTF(data)
        lacking = facts._types(btf).missing_members
    except BTFError:
        return
    with suppress(BTFError) if not lacking else pytest.raises(HostError):
        assert "struct vm_area_struct {" in kernel_types.declarations(btf)


@one_of(5)
@given(changes=st.lists(CHANGES["real"], min_size=1, max_size=4))
def test_the_types_of_this_kernel_damaged(changes: list[tuple[int, bytes]]) -> None:
    refused_or_answered(damaged(REAL, changes))


@one_of(1)
@given(changes=st.lists(CHANGES["written"], min_size=1, max_size=4))
def test_a_few_types_damaged(changes: list[tuple[int, bytes]]) -> None:
    refused_or_answered(damaged(WRITTEN, changes))


@one_of(2)
@given(begin=st.integers(0, len(WRITTEN)), length=st.integers(1, 200), data=st.data())
def test_bytes_taken_out_or_put_in(begin: int, length: int, data: st.DataObject) -> None:
    inserted = data.draw(st.binary(max_size=length))
    refused_or_answered(WRITTEN[:begin] + inserted + WRITTEN[begin + length :])
