"""What pte-trace does in a kernel built without what it rests on, and that the doctor said so."""

from __future__ import annotations

from tests.kernel.host import Host


def _ways_of_all_hooks() -> set[str]:
    """How the hooks are attached: as the doctor says, and with exact counts."""
    found = Host().doctor()
    assert found["refusal"] is None
    hooks = Host().traced()["hooks"]
    assert {name: hook["how"] for name, hook in hooks.items()} == {
        name: hook["how"] for name, hook in found["hooks"].items()
    }
    return {hook["how"] for hook in hooks.values()}


def test_nokprobes_is_traced_by_trampolines() -> None:
    assert Host().doctor()["facts"]["kprobes"] is False
    assert _ways_of_all_hooks() == {"fentry"}


def test_nofentry_is_traced_by_kprobes() -> None:
    functions = Host().doctor()["functions"]
    assert {function["fentry"] for function in functions.values()} == {False}
    assert _ways_of_all_hooks() == {"kprobe"}


def test_nobtf_is_refused() -> None:
    refusal = Host().doctor()["refusal"]
    assert "without CONFIG_DEBUG_INFO_BTF" in refusal["why"]
    assert Host().is_refused(refusal)
