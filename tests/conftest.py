"""For all tests: neither how long an example takes nor who started us is a reason to fail."""

from __future__ import annotations

import os
import signal

# No test in a guest of the lab draws examples, and there it takes long to import.
if "PTE_TRACE_LAB" not in os.environ:
    from hypothesis import HealthCheck, settings

    suppressed = [HealthCheck.too_slow]
    settings.register_profile("untimed", deadline=None, suppress_health_check=suppressed)
    settings.register_profile("fuzz", settings.get_profile("untimed"), max_examples=2_000)
    settings.load_profile("untimed")

# What nohup(1) or a shell starts in the background ignores these, and so does what that starts.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
