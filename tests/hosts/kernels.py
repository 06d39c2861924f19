"""Kernels built without what tracing rests on, for `make test-hosts`: one guest for each.

python -m tests.hosts.kernels [NAME...]
"""

from __future__ import annotations

import sys

from pte_trace.lab import Guest, cache, stream
from pte_trace.lab.build import Builder
from pte_trace.lab.progress import Progress
from pte_trace.lab.series import Series

_LEFT_OUT = {
    "nokprobes": ("KPROBES", "KPROBE_EVENTS"),
    "nofentry": ("FUNCTION_TRACER", "DYNAMIC_FTRACE"),
    "nobtf": ("DEBUG_INFO_BTF",),
}
HOSTS = {
    name: Series("6.1", "bookworm", {name: None}, 1800, {name: options})
    for name, options in _LEFT_OUT.items()
}
_TIMEOUT_S = 900


def main() -> int:
    """Build each kernel asked for that is missing, and test in it what is said of it."""
    progress = Progress()
    directory = cache.directory()
    failed = False
    for name in sys.argv[1:] or HOSTS:
        Builder(directory, progress).build(HOSTS[name])
        kernel = cache.find(directory, name)
        assert kernel is not None
        progress.say(f"== {name}")
        tests = ["python", "-m", "pytest", "-p", "no:cacheprovider", "-k", name, "tests/hosts"]
        status = stream(
            kernel,
            tests,
            Guest(timeout=_TIMEOUT_S),
            sys.stdout.buffer.write,
            sys.stderr.buffer.write,
            progress,
        )
        failed = failed or status != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
