"""The command line: which command is meant, what is refused, how errors look."""

from __future__ import annotations

import re
from pathlib import Path
from unittest.mock import MagicMock

import click
import pytest
from click.testing import CliRunner

from pte_trace.cli import _Commands, cli
from pte_trace.commands import options
from pte_trace.commands.compare import compare
from pte_trace.commands.doctor import doctor
from pte_trace.commands.explain import explain
from pte_trace.commands.record import record
from pte_trace.commands.report import report
from pte_trace.commands.run import run
from pte_trace.commands.top import top
from pte_trace.counted.order import SORT_FIELDS
from pte_trace.counted.snapshot import Health
from pte_trace.errors import HostError
from pte_trace.views import sentences
from tests.builders import snapshot

COMMANDS = {
    "top": top,
    "run": run,
    "explain": explain,
    "record": record,
    "report": report,
    "compare": compare,
    "doctor": doctor,
}


class CommandsThatTell(_Commands):
    """The group, with commands that print how they were called and do nothing else."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        return click.Command(
            cmd_name,
            params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)],
            callback=lambda words: click.echo(" ".join((cmd_name, *words))),
            context_settings={"ignore_unknown_options": True},
        )


def called(*arguments: str) -> str:
    result = CliRunner().invoke(CommandsThatTell("pte-trace"), arguments)
    assert result.exit_code == 0, result.output
    return result.output.strip()


def refused(command: click.Command, *arguments: str) -> str:
    """What is wrong with *arguments*; they are parsed, the command does not run."""
    with pytest.raises(click.UsageError) as caught:
        command.make_context("command", list(arguments))
    assert caught.value.exit_code == 2
    return caught.value.format_message()


def help_of(*command: str) -> str:
    result = CliRunner().invoke(cli, [*command, "--help"])
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ([], "top"),
        (["-p", "7"], "top -p 7"),
        (["--sort", "pid", "-n", "1"], "top --sort pid -n 1"),
        (["top", "-p", "7"], "top -p 7"),
        (["run", "ls", "-l"], "run ls -l"),
        (["doctor"], "doctor"),
    ],
)
def test_what_names_no_command_is_for_top(arguments: list[str], meant: str) -> None:
    assert called(*arguments) == meant


def test_an_unknown_command_is_refused() -> None:
    result = CliRunner().invoke(cli, ["stop"])
    assert result.exit_code == 2
    assert "No such command 'stop'" in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_refused(command: str) -> None:
    assert "No such option" in refused(COMMANDS[command], "--colour")


@pytest.mark.parametrize("seconds", ["0", "-1", "0.01", "nan", "inf", "soon", ""])
def test_an_interval_must_be_a_time_to_wait(seconds: str) -> None:
    assert "-i" in refused(top, "-i", seconds)


@pytest.mark.parametrize("seconds", ["0.1", "1", "2.5", "3600"])
def test_an_interval_is_in_seconds(seconds: str) -> None:
    assert top.make_context("top", ["-i", seconds]).params["interval"] == float(seconds)


@pytest.mark.parametrize("option", ["-n", "--rows", "-p"])
@pytest.mark.parametrize("number", ["0", "-1", "1.5", "many"])
def test_numbers_must_be_positive(option: str, number: str) -> None:
    assert option in refused(top, option, number)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--sort", "size"],
        ["--format", "xml"],
        ["--attach", "uprobe"],
        ["--output"],
        ["left over"],
    ],
)
def test_what_top_does_not_know_is_refused(arguments: list[str]) -> None:
    assert refused(top, *arguments)


def test_run_needs_a_command() -> None:
    assert "COMMAND" in refused(run)
    assert "COMMAND" in refused(run, "--format", "json", "--")


def test_options_after_the_command_are_the_commands_own() -> None:
    context = run.make_context("run", ["--format", "csv", "ls", "-l", "--format", "long"])
    assert context.params["style"] == "csv"
    assert context.params["command"] == ("ls", "-l", "--format", "long")


def test_a_directory_cannot_take_the_output(tmp_path: Path) -> None:
    assert "is a directory" in refused(top, "-o", str(tmp_path))


def test_pids_may_be_repeated() -> None:
    assert top.make_context("top", ["-p", "1", "-p", "2"]).params["pids"] == (1, 2)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_duration_must_be_a_time_to_wait(seconds: str) -> None:
    assert "-d" in refused(explain, "-d", seconds)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_every_option(command: str) -> None:
    text = help_of(command)
    for parameter in COMMANDS[command].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert all(option in text for option in parameter.opts)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_help_has_examples(command: list[str]) -> None:
    shown = help_of(*command)
    assert "Examples:" in shown
    assert re.search(r"^ +(sudo )?pte-trace", shown.split("Examples:")[1], re.MULTILINE)


def test_help_of_the_group_lists_the_commands() -> None:
    shown = help_of()
    for command in (*COMMANDS, "lab"):
        assert re.search(rf"^  {command} +\w", shown, re.MULTILINE), command


def test_help_of_top_tells_the_fields_to_sort_by() -> None:
    assert "|".join(SORT_FIELDS) in help_of("top").replace("\n", "").replace(" ", "")


def test_the_short_option_helps_too() -> None:
    assert CliRunner().invoke(cli, ["-h"]).output == help_of()


def test_notes_advise_options_that_exist() -> None:
    said = " ".join(
        note.plain for note in sentences.notes(snapshot(health=Health(1, 1, stacks_full=1)))
    )
    known = {option for parameter in top.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", said)) <= known


@pytest.mark.parametrize("style", ["text", "json", "csv"])
def test_top_adds_nothing_up_where_nobody_can_ask_for_the_sum(
    monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    session = MagicMock(side_effect=HostError("No further."))
    monkeypatch.setattr(options.Request, "session", session)
    with pytest.raises(HostError):
        cli.main(["top", "-n", "1", "--format", style], standalone_mode=False)
    session.assert_called_once_with(keep=False)
