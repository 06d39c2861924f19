"""Write the manual page and the shell completions, from what the commands say of themselves.

`make manual` writes them anew into share/, from where the package installs them.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from pte_trace.cli import cli
from pte_trace.views.legend import entries

SHARE = Path(__file__).parent.parent / "share"
_NAME = "pte-trace"
_FIGURES = Path(__file__).with_name("overhead")
_FAULT = "write-protect fault"
_COMPLETIONS = {
    "bash": "bash-completion/completions/pte-trace",
    "zsh": "zsh/site-functions/_pte-trace",
    "fish": "fish/vendor_completions.d/pte-trace.fish",
}
_END = r"""
.SH EXIT STATUS
.TP
0
done
.TP
1
failed
.TP
2
wrong usage, or a file that is no recording
.TP
3
this host cannot be traced
.PP
.BR run ,
.B explain
and
.B record
pass their command's status on (128 + N where signal N ended it, 127 where it was not found, 126
where it cannot be executed).
.SH FILES
.TP
.I ~/.cache/pte\-trace/programs
BPF programs as they were compiled for this kernel and these options; the 16 used last are kept
.TP
.I ~/.cache/pte\-trace/bench
the program that
.B bench
measures
.TP
.I ~/.cache/pte\-trace/lab
the kernels of
.B lab
.PP
XDG_CACHE_HOME is obeyed, by root where nobody else can change it or what is above it; a service has
the directory that systemd made for it. What another user could have written there is not used.
.SH SEE ALSO
.BR mprotect (2),
.BR userfaultfd (2),
.BR proc (5)
"""


def files() -> dict[Path, str]:
    """What is installed, by its path below share/."""
    made = {Path("man/man1/pte-trace.1"): _page()}
    for shell, path in _COMPLETIONS.items():
        made[Path(path)] = _completion(shell)
    return made


def _completion(shell: str) -> str:
    kind = get_completion_class(shell)
    assert kind is not None
    variables = kind(cli, {}, _NAME, "_PTE_TRACE_COMPLETE").source_vars()
    return kind.source_template % variables


def _page() -> str:
    lines = [
        f'.TH {_roff(_NAME.upper())} 1 "" "{_NAME}" "User Commands"',
        ".SH NAME",
        rf"{_roff(_NAME)} \- show write faults per mapping, and those that mprotect() saved",
        ".SH SYNOPSIS",
        f".B {_roff(_NAME)}",
        "[COMMAND] [OPTIONS] [ARGUMENTS]",
        ".SH DESCRIPTION",
        *_text(cli.help),
        ".SH COMMANDS",
        *_commands(cli, _NAME, click.Context(cli, info_name=_NAME)),
        ".SH NUMBERS",
        *_numbers(),
        ".SH OVERHEAD",
        *_overhead(),
    ]
    return "\n".join(lines) + _END


def _commands(group: click.Group, name: str, context: click.Context) -> Iterator[str]:
    for each in group.list_commands(context):
        command = group.get_command(context, each)
        assert command is not None
        of = click.Context(command, info_name=each, parent=context)
        yield f".SS {_roff(' '.join((name, each, *command.collect_usage_pieces(of))))}"
        yield from _text(command.help)
        for parameter in command.get_params(of):
            said = parameter.get_help_record(of)
            if said:
                yield from (".TP", f".B {_roff(said[0])}", _roff(said[1]))
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name} {each}", of)


def _numbers() -> Iterator[str]:
    for column, name, said in entries():
        yield from (".TP", f".BR {_roff(column)} ,", _roff(f"{name}: {said}".replace("`", "")))


def _overhead() -> Iterator[str]:
    """What `make bench` measured; docs/overhead.md has all of it."""
    faults = json.loads((_FIGURES / "bookworm.json").read_text())
    start = json.loads((_FIGURES / "start.json").read_text())["tools"]["pte-trace"]
    ways = faults["ways"]
    untraced, bpftrace, everything, counts = (
        ways[way][_FAULT] for way in ("untraced", "bpftrace", "everything", "--costs none")
    )
    yield _roff(
        f"On Linux {faults['release']} a write-protect fault takes {untraced:,.0f} instructions. "
        f"Tracing adds {everything - untraced:,.0f}, or {counts - untraced:,.0f} with --costs "
        f"none; a bpftrace script that counts on two functions adds {bpftrace - untraced:,.0f}. "
        f"From exec to attached it takes {start['instructions'] / 1e9:.1f} thousand million "
        f"instructions once the programs were compiled, and {start['resident_bytes'] / 1e6:,.0f} "
        "MB are resident then. `make bench` measures this, and docs/overhead.md has all of it."
    )


def _text(text: str | None) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text or "")):
        if paragraph.startswith("\b"):
            lines = paragraph.splitlines()[1:]
            yield from (".PP", ".nf", *map(_roff, lines), ".fi")
        else:
            yield from (".PP", _roff(" ".join(paragraph.split())))


def _roff(text: str) -> str:
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    escaped = "".join(each if each.isascii() else rf"\[u{ord(each):04X}]" for each in escaped)
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


def main() -> None:
    for path, text in files().items():
        (SHARE / path).parent.mkdir(parents=True, exist_ok=True)
        (SHARE / path).write_text(text)


if __name__ == "__main__":
    main()
