"""The benchmark program, compiled when it is first used: a timing must not contain Python."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import tempfile
from importlib.resources import files
from pathlib import Path

from pte_trace import user_cache
from pte_trace.errors import HostError

SOURCE = "seed.c"
_COMPILERS = ("cc", "gcc")
_FLAGS = ("-O2", "-Wall")
# Where it is looked for, and its whole environment: variables of who called sudo could name others.
_PATH = "/usr/local/bin:/usr/bin:/bin"
_MEND = "sudo apt install gcc libc6-dev"


def program(directory: Path | None = None, path: str = _PATH) -> Path:
    """The compiled program, from the cache where it is there already.

    *directory* is the cache, by default the user's, *path* where a compiler is looked for.
    Raises HostError where there is no compiler, or it fails, or the cache cannot be written.
    """
    source = files("pte_trace.bench").joinpath(SOURCE).read_bytes()
    key = hashlib.sha256(b"\0".join((source, *map(str.encode, _FLAGS)))).hexdigest()[:16]
    directory = directory or user_cache.directory() / "bench"
    compiled = directory / f"seed-{key}"
    if not (user_cache.is_ours(directory) and user_cache.is_ours(compiled)):
        _compile(source, compiled, _compiler(path))
    return compiled


def _compiler(path: str) -> str:
    for name in _COMPILERS:
        if found := shutil.which(name, path=path):
            return found
    raise HostError("The benchmark is a C program, and there is no C compiler here.", _MEND)


def _compile(source: bytes, target: Path, compiler: str) -> None:
    """Into another file first: *target* appears whole or not at all."""
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not user_cache.is_ours(target.parent):
            raise HostError(
                f"Another user could replace the benchmark in {target.parent}.",
                f"Remove it: sudo rm -r {shlex.quote(str(target.parent))}",
            )
        with tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent) as made:
            result = Path(made) / "seed"
            done = subprocess.run(
                [compiler, *_FLAGS, "-x", "c", "-", "-o", result],
                input=source,
                env={"PATH": _PATH},
                capture_output=True,
                check=False,
            )
            if done.returncode:
                said = done.stderr.decode(errors="replace").strip()
                raise HostError(f"The benchmark could not be compiled: {said}", _MEND)
            result.chmod(0o755)
            result.replace(target)
    except OSError as error:
        raise HostError(
            f"The benchmark could not be put into {target.parent}: {error.strerror}.",
            "Set XDG_CACHE_HOME to a directory you may write.",
        ) from error
