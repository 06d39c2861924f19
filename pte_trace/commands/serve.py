"""`pte-trace serve`: the counts as Prometheus metrics."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

import click

from pte_trace import __version__
from pte_trace.commands import child, options
from pte_trace.exporter import app, labels, listen, memory, rights
from pte_trace.exporter.app import Exporter
from pte_trace.exporter.reader import Reader
from pte_trace.exporter.server import Server
from pte_trace.exporter.switches import Switches
from pte_trace.exporter.web_config_file import WebConfigFile
from pte_trace.host.plan import capabilities_to_read
from pte_trace.views.printable import printable


@click.command()
@options.tracing(formats=(), split=False, stacks=False)
@click.option(
    "--listen",
    "addresses",
    multiple=True,
    metavar="ADDRESS",
    help="HOST:PORT, [IPV6]:PORT, :PORT for all addresses, or unix:PATH; may be repeated."
    f"  [default: {listen.DEFAULT}, or the sockets that systemd passes]",
)
@click.option(
    "--web-config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="TLS and passwords, in the exporter-toolkit's format; read again when it changes.",
)
@click.option(
    "--top-mappings",
    type=click.IntRange(min=0, max=10_000),
    default=200,
    show_default=True,
    metavar="N",
    help='Groups of series, one per process name and mapping; the rest is mapping="other".',
)
@click.option(
    "--label",
    "given_labels",
    multiple=True,
    metavar="NAME=VALUE",
    help="Put this label on each series; may be repeated.",
)
@click.option("--by-pid", is_flag=True, help="Groups by process too, with a label `pid`.")
@click.option(
    "--by-cgroup",
    is_flag=True,
    help="Groups by cgroup too, with labels `cgroup` (its path), `unit`, `container` and `pod`.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Look at the options, the web configuration and this host, and end: nothing is served.",
)
def serve(
    request: options.Request,
    addresses: tuple[str, ...],
    web_config: Path | None,
    top_mappings: int,
    given_labels: tuple[str, ...],
    by_pid: bool,
    by_cgroup: bool,
    check: bool,
) -> None:
    """Serve the counts to Prometheus, and a page for a browser.

    `/metrics` has counters by process name, kind and name of the mapping, which never fall
    while it runs; `/` shows them to a person; `/-/healthy` and `/-/ready` are for a service
    manager. Only this machine can connect unless --listen says otherwise. Once the programs
    are attached it is root no more: it becomes the user nobody, and keeps CAP_BPF where the
    kernel asks for it when tables are read (up to Linux 5.18), where kprobes need it
    CAP_SYS_NICE to read them undisturbed, with --web-config CAP_DAC_READ_SEARCH to read those
    files again. It runs until SIGTERM or Ctrl-C. Exit status 2 for a bad address, label or web
    configuration, 3 where it cannot listen or this host cannot be traced.

    \b
    Examples:
      sudo pte-trace serve
      sudo pte-trace serve --listen :9818 --web-config web.yml
      sudo pte-trace serve -c postgres --label team=storage
      sudo pte-trace serve --check --web-config web.yml
    """
    memory.keep_small()
    constant = labels.parse(given_labels)
    if check:
        listen.check(addresses)
        WebConfigFile(web_config)
        request.session(keep=False).examine()
        _say("It can be served so.")
        return
    passed = listen.passed_sockets(os.environ)
    if not addresses and not passed:
        addresses = (listen.DEFAULT,)
    with listen.listening(addresses, passed) as listeners:
        server = Server(listeners, web_config, _say)
        with request.session(keep=False) as session, closing(Switches()) as switches:
            session.start()
            # With numpy: nothing waits for it any more, and all files may be read still.
            from pte_trace.exporter.groups import Groups

            kept = capabilities_to_read(session.facts, session.plan.attachments)
            app.load()
            rights.give_up(kept | {"CAP_DAC_READ_SEARCH"} if web_config else kept)
            groups = Groups(top_mappings, by_pid=by_pid, by_cgroup=by_cgroup)
            with (
                child.signals_end() as told,
                Reader(session, groups, _say, switches=switches) as reader,
                closing(Exporter(reader, constant, __version__)) as exporter,
            ):
                for listener in listeners:
                    _say(f"Listening on {listen.url(listener, tls=server.tls)}")
                server.run(exporter, told)


def _say(sentence: str) -> None:
    print(f"pte-trace: {printable(sentence)}", file=sys.stderr, flush=True)
