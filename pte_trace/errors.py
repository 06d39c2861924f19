"""The errors a user can foresee. One place, `pte_trace.__main__`, prints them and exits."""

from __future__ import annotations


class PteTraceError(Exception):
    """What went wrong in one sentence, and in another how to mend it."""

    exit_status = 1

    def __init__(self, what: str, mend: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend


class UsageError(PteTraceError):
    """The command line asks for something that cannot be."""

    exit_status = 2


class HostError(PteTraceError):
    """This host cannot do what was asked."""

    exit_status = 3


class CommandError(PteTraceError):
    """The traced command could not be started; the status is a shell's (126 or 127)."""

    def __init__(self, what: str, mend: str, exit_status: int) -> None:
        super().__init__(what, mend)
        self.exit_status = exit_status


class RecordingError(PteTraceError):
    """A file is no recording, or was damaged."""

    exit_status = 2
