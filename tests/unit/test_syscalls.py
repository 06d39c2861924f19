"""System calls whose answer does not depend on the kernel or on who asks."""

from __future__ import annotations

import errno

import pytest

from pte_trace.kernel import syscalls


def test_an_account_of_no_file_is_refused_for_want_of_rights_or_of_the_file() -> None:
    """The first is what `serve` asks, who wants to know which of both."""
    with pytest.raises(OSError, match=rf"Errno ({errno.EPERM}|{errno.EBADFD})\b"):
        syscalls.account(-1)
