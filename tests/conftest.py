"""For all tests: neither how long an example takes nor who started us is a reason to fail."""

from __future__ import annotations

import os
import signal

# No test in a guest of the lab draws examples or a schema, and there it takes long to import.
if "PTE_TRACE_LAB" not in os.environ:
    from hypothesis import HealthCheck, settings

    from tests import checked

    suppressed = [HealthCheck.too_slow]
    settings.register_profile("untimed", deadline=None, suppress_health_check=suppressed)
    settings.register_profile("fuzz", settings.get_profile("untimed"), max_examples=2_000)
    settings.load_profile("untimed")
    checked.install()

# What a test makes is its user's alone; where each has a group of its own, it may not be.
os.umask(0o022)

# What nohup(1) or a shell starts in the background ignores these, and so does what that starts.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
