"""The running kernel's types, without reading them where all that is asked was asked before.

BTF is five megabytes of types, of which some hundred questions are asked, the same each time. Their
answers are in the user's cache, by what tells this kernel from any other: its build ID.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pte_trace import user_cache
from pte_trace.errors import HostError
from pte_trace.kernel import btf
from pte_trace.kernel.btf import BTF, Member

# The kernel's ELF notes, the build ID among them.
_NOTES = Path("/sys/kernel/notes")
_KERNELS = 16

_Answer = TypeVar("_Answer")


class RememberedBTF(BTF):
    """What a `BTF` answers; *read* is called at the first question whose answer is not known."""

    def __init__(self, path: Path | None, known: dict[str, Any], read: Callable[[], bytes]) -> None:
        """*path* is where `keep` puts the answers; None where they cannot be kept."""
        self._path = path
        self._known = known
        self._read = read
        self._before = len(known)
        self._is_read = False

    def keep(self) -> None:
        """Put the answers where the next start finds them. Does not raise: it costs time only."""
        if self._path is not None and len(self._known) > self._before:
            self._before = len(self._known)
            with suppress(OSError):
                user_cache.keep(self._path, json.dumps(self._known).encode(), _KERNELS)

    def _answer(
        self, question: str, ask: Callable[[], _Answer], again: Callable[[Any], _Answer]
    ) -> _Answer:
        if question in self._known:
            return again(self._known[question])
        if not self._is_read:
            super().__init__(self._read())
            self._is_read = True
        answer = ask()
        self._known[question] = answer
        return answer

    def struct_size(self, name: str) -> int | None:
        return self._answer(f"size {name}", lambda: BTF.struct_size(self, name), _number)

    def struct_id(self, name: str) -> int | None:
        return self._answer(f"struct {name}", lambda: BTF.struct_id(self, name), _number)

    def member(self, struct_name: str, path: str) -> Member | None:
        return self._answer(
            f"member {struct_name}.{path}",
            lambda: BTF.member(self, struct_name, path),
            lambda found: found and Member(*found),
        )

    def parameters(self, function: str) -> tuple[str, ...] | None:
        return self._answer(
            f"parameters {function}",
            lambda: BTF.parameters(self, function),
            lambda found: None if found is None else tuple(found),
        )

    def takes_structs(self, function: str) -> bool:
        return self._answer(f"structs {function}", lambda: BTF.takes_structs(self, function), bool)

    def function_id(self, function: str) -> int | None:
        return self._answer(
            f"function {function}", lambda: BTF.function_id(self, function), _number
        )

    def enumerators(self, enum: str) -> dict[str, int]:
        return self._answer(f"enum {enum}", lambda: BTF.enumerators(self, enum), dict)


def _number(found: Any) -> int | None:
    return None if found is None else int(found)


def of_running_kernel(vmlinux: Path = btf.VMLINUX, notes: Path = _NOTES) -> RememberedBTF:
    """The running kernel's types. Raises OSError, BTFError where they cannot be had."""
    size = vmlinux.stat().st_size
    try:
        parts = (Path(btf.__file__).read_bytes(), notes.read_bytes(), str(size).encode())
        path = user_cache.directory() / "types" / f"{user_cache.digest(*parts)}.json"
    except (OSError, HostError):
        path = None
    known: dict[str, Any] = {}
    if path is not None:
        with suppress(OSError, ValueError, TypeError):
            known.update(json.loads(user_cache.read(path)))
    types = RememberedBTF(path, known, vmlinux.read_bytes)
    if not known:
        types.struct_size("task_struct")  # whether they can be read is known now
    return types
