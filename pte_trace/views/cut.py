"""Names of a stated length: whoever chooses a name chooses no size for it."""

from __future__ import annotations

import hashlib
import re

from pte_trace.views.printable import printable

# Bytes, as Prometheus counts a label's value; as a rule it is told to take some hundreds.
LONGEST = 128
_DIGEST = 8
_MARK = "…"
_CUT = re.compile(rf"{_MARK}[0-9a-f]{{{2 * _DIGEST}}}\Z")


def cut(text: str, longest: int = LONGEST) -> str:
    """*text*, printable, in at most *longest* bytes of UTF-8.

    What is longer ends in an ellipsis and a hash of the whole, and so does what looks as if it had
    been cut: two texts that are different stay so.
    """
    shown = printable(text)
    if len(shown.encode()) <= longest and not _CUT.search(shown):
        return shown
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST)
    end = f"{_MARK}{digest.hexdigest()}"
    return shown.encode()[: longest - len(end.encode())].decode(errors="ignore") + end
