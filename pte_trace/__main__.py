"""Run a command line and exit. The only place that prints errors and the only one that exits."""

from __future__ import annotations

import os
import sys

import click

from pte_trace.cli import cli
from pte_trace.errors import PteTraceError

_INTERRUPTED = 130
_BROKEN_PIPE = 141


def main() -> None:
    sys.exit(_run())


def _run() -> int:
    try:
        status = cli.main(prog_name="pte-trace", standalone_mode=False)
    except PteTraceError as error:
        print(f"pte-trace: {error.what}", file=sys.stderr)
        if error.mend:
            print(f"  {error.mend}", file=sys.stderr)
        return error.exit_status
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED
    except BrokenPipeError:
        # Nobody reads any more: keep the interpreter from complaining at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    main()
