"""A pre-fork server: it makes a large table, forks workers, and these collect garbage.

    python prefork.py [--freeze]

With --freeze the collector leaves alone what was there before the fork.
"""

import gc
import os
import sys

ROWS, WORKERS = 60_000, 3

table = {number: {"name": f"row {number}", "values": [number]} for number in range(ROWS)}
if "--freeze" in sys.argv:
    gc.freeze()
for _ in range(WORKERS):
    if not os.fork():
        gc.collect()
        os._exit(0)
for _ in range(WORKERS):
    os.wait()
