"""The benchmarks that the optimization was posted with: what a write costs, and why."""

from __future__ import annotations

from pte_trace.bench.measure import Bench
from pte_trace.bench.results import Macro, Micro

__all__ = ["Bench", "Macro", "Micro"]
