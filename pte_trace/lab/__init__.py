"""Throw-away kernels under QEMU: fetched into a cache, booted for one command."""

from __future__ import annotations

from pte_trace.lab.guest import Guest
from pte_trace.lab.running import ready, run, stream

__all__ = ["Guest", "ready", "run", "stream"]
