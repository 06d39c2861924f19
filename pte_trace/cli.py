"""The command line: which commands there are. Each is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

import click

from pte_trace import __version__

_COMMANDS = (
    "top",
    "run",
    "explain",
    "record",
    "report",
    "compare",
    "serve",
    "doctor",
    "schema",
    "bench",
    "lab",
)
_DEFAULT = "top"
_OF_THE_GROUP = {"--help", "-h", "--version"}


class _Commands(click.Group):
    """Finds a command in the module of its name; what names no command is for `top`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(f"pte_trace.commands.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        no_command = not args or (args[0].startswith("-") and args[0] not in _OF_THE_GROUP)
        # While a shell completes a command's name there is none yet, and none is meant.
        if no_command and not ctx.resilient_parsing:
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Show write faults per mapping, and those that mprotect() saved.

    Since Linux 6.0 mprotect() maps a private page writable at once when the write-fault
    handler would do so anyway (commit 64fe24a3e05e). pte-trace counts on the running
    kernel the write faults still taken, and why.

    Without a command: `pte-trace top`, a live view of the whole machine.

    \b
    Examples:
      sudo pte-trace                       what the whole machine does, live
      sudo pte-trace run -- ./program      one command and its children
      sudo pte-trace explain -- ./program  why its write faults were saved or taken
      sudo pte-trace top -p 1234 -n 5      one process, five times a second apart
      sudo pte-trace serve                 for Prometheus, and a page for a browser
      pte-trace doctor                     what this kernel allows
      sudo pte-trace bench                 what a write costs on it, and why
      pte-trace lab run -- pte-trace run -- ./program
                                           the same in a throw-away Debian kernel
    """
