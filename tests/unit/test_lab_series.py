"""The changes to the kernel's source, made on short samples of it."""

from __future__ import annotations

import pytest

from pte_trace.errors import HostError, UsageError
from pte_trace.lab.kernels import BUILT
from pte_trace.lab.series import AS_A_SYMBOL, SERIES, Edit, series, series_of

FIXUP = {
    "6.1": """\
\tif (vma->vm_flags & VM_SHARED)
\t\ttry_change_writable = vma_wants_writenotify(vma, vma->vm_page_prot);
\telse
\t\ttry_change_writable = !!(vma->vm_flags & VM_WRITE);
\tvma_set_page_prot(vma);

\tchange_protection(tlb, vma, start, end, vma->vm_page_prot,
\t\ttry_change_writable ? MM_CP_TRY_CHANGE_WRITABLE : 0);
""",
    "6.12": """\
\tvm_flags_reset(vma, newflags);
\tif (vma_wants_manual_pte_write_upgrade(vma))
\t\tmm_cp_flags |= MM_CP_TRY_CHANGE_WRITABLE;
\tvma_set_page_prot(vma);

\tchange_protection(tlb, vma, start, end, mm_cp_flags);
""",
}
UNPATCHED = {
    "6.1": FIXUP["6.1"].replace("!!(vma->vm_flags & VM_WRITE)", "false"),
    "6.12": FIXUP["6.12"].replace(
        "vma_wants_manual_pte_write_upgrade(vma)",
        "(vma->vm_flags & VM_SHARED) && vma_wants_manual_pte_write_upgrade(vma)",
    ),
}


def without(name: str) -> Edit:
    """What takes the optimization away."""
    *_, edit = SERIES[name].edits.values()
    assert edit is not None
    return edit


@pytest.mark.parametrize("name", SERIES)
def test_the_unpatched_kernel_does_not_ask(name: str) -> None:
    assert without(name).apply(FIXUP[name]) == UNPATCHED[name]


@pytest.mark.parametrize("kind", ["long", "unsigned long"])
def test_change_pte_range_becomes_a_symbol(kind: str) -> None:
    before = f"}}\n\nstatic {kind} change_pte_range(struct mmu_gather *tlb,\n\t\tpgprot_t p)\n{{\n"
    after = before.replace("static", "static noinline")
    assert AS_A_SYMBOL.apply(before + "\tret = change_pte_range(tlb);\n") == (
        after + "\tret = change_pte_range(tlb);\n"
    )


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize(("times", "says"), [(0, "has no places"), (2, "has 2 places")])
def test_a_source_without_the_one_place_is_refused(name: str, times: int, says: str) -> None:
    with pytest.raises(HostError, match=says) as caught:
        without(name).apply(FIXUP[name] * times)
    assert "--mirror" in caught.value.mend


def test_the_lab_knows_the_kernels_of_all_series() -> None:
    assert [name for each in SERIES.values() for name in each.edits] == list(BUILT)
    assert series_of("unpatched-6.12") is series("6.12")


def test_an_unknown_series_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"`6\.6`") as caught:
        series("6.6")
    assert all(name in caught.value.mend for name in SERIES)
