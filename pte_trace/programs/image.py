"""Compiled BPF programs: made by the compiler once, kept for the next time.

What was compiled is in the user's cache, by what went into it. Only what nobody else can have put
there is taken from it.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pte_trace import user_cache
from pte_trace.errors import HostError
from pte_trace.programs import compiler, desk
from pte_trace.programs.program import kernel_tree

# How many are kept: of each kernel one for each set of options.
_KEPT = 16
_KEPT_FOR_GUESTS = 256
# As BCC names the programs; since 0.27 with the module before the function.
_KINDS = {
    "fentry": r"kfunc__(?:vmlinux__)?",
    "fexit": r"kretfunc__(?:vmlinux__)?",
    "learner": "learn__",
    "raw_tracepoint": "raw_tracepoint__",
    "session": "session_",
    "kprobe": "enter_",
    "kretprobe": "leave_",
}
AT_RETURN = ("fexit", "kretprobe")


class TableShape(NamedTuple):
    name: str
    type: int
    key_size: int
    value_size: int
    entries: int
    flags: int


class Program(NamedTuple):
    """Where a program belongs, its instructions, and at which of them a function begins."""

    kind: str
    function: str
    code: bytes
    functions: tuple[int, ...]

    @property
    def at_return(self) -> bool:
        return self.kind in AT_RETURN


class Image(NamedTuple):
    tables: tuple[TableShape, ...]
    programs: tuple[Program, ...]


def bcc_version() -> tuple[str | None, str | None]:
    """The BCC module's version, and where another package of that name is in its place.

    Both None where there is neither. Found without importing it.
    """
    spec = importlib.util.find_spec("bcc")
    if spec is None or spec.origin is None:
        return None, None
    directory = Path(spec.origin).parent
    if not (directory / "libbcc.py").exists():
        return None, str(directory)
    try:
        found = re.search(r"'([^']+)'", (directory / "version.py").read_text())
    except OSError:
        found = None
    return (found.group(1) if found else "unknown"), None


def of(text: bytes, version: str | None) -> Image:
    """The image of *text*, compiled by this *version* of BCC. Raises HostError."""
    try:
        folder = user_cache.directory() / "programs"
    except HostError:  # there is nowhere to keep it
        return _image(_compiled(text))
    return _made(text, key_of(text, version), folder, _KEPT)[1]


def for_guest(key: str, text: bytes, version: str | None, folder: Path) -> bytes | None:
    """What a guest of the lab that asks for *key* is told: see desk.py. Kept in *folder*.

    None where this machine would not make of *text* what the guest would: its BCC is another one,
    or what compiles.
    """
    if key != key_of(text, version):
        return None
    try:
        return _made(text, key, folder, _KEPT_FOR_GUESTS)[0]
    except HostError:  # the guest compiles it, and says what is wrong
        return None


def key_of(text: bytes, version: str | None) -> str:
    """What the image of *text* is kept as: all that it is made of."""
    tree = Path(kernel_tree())
    parts = [
        (version or "").encode(),
        Path(compiler.__file__).read_bytes(),
        *(each.read_bytes() for each in sorted(tree.rglob("*")) if each.is_file()),
        text,
    ]
    return user_cache.digest(*parts)


def _made(text: bytes, key: str, folder: Path, most: int) -> tuple[bytes, Image]:
    path = folder / f"{key}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = user_cache.read(path)
        return kept, _image(kept)
    compiled = desk.ask(key, text) or _compiled(text)
    image = _image(compiled)
    with suppress(OSError):
        user_cache.keep(path, compiled, most)
    return compiled, image


def _compiled(text: bytes) -> bytes:
    """What the compiler makes of *text*, seeing no variable but the one for its headers."""
    done = subprocess.run(
        [sys.executable, "-I", compiler.__file__, str(os.getpid())],
        input=text,
        capture_output=True,
        env={"BCC_KERNEL_SOURCE": kernel_tree()},
        # BCC has room for 256 bytes of the caller's, which need not be there any more.
        cwd="/",
        check=False,
    )
    said = done.stderr.decode("utf-8", "replace")
    if os.environ.get("PTE_TRACE_DEBUG"):
        print(said, file=sys.stderr)
    if done.returncode:
        raise failure(said)
    return done.stdout


def failure(said: str) -> HostError:
    """That the compiler or the kernel refused the programs, and its last error or word."""
    lines = [line for line in said.splitlines() if line.strip()] or ["no reason is given"]
    last = [line for line in lines if "error: " in line.lower()] or lines
    return HostError(
        f"The BPF programs could not be loaded: {last[-1].strip()}",
        "Run `pte-trace doctor`; with PTE_TRACE_DEBUG=1 all that was said is shown.",
    )


def _image(compiled: bytes) -> Image:
    found: dict[str, list[dict[str, Any]]] = json.loads(compiled)
    return Image(
        tuple(TableShape(**each) for each in found["tables"]),
        tuple(_program(**each) for each in found["programs"]),
    )


def _program(name: str, code: str, functions: list[int]) -> Program:
    for kind, prefix in _KINDS.items():
        if matched := re.match(prefix, name):
            function = name[matched.end() :]
            return Program(kind, function, base64.b64decode(code), tuple(functions))
    raise ValueError(f"a program of no kind: {name}")
