"""Which Debian archive this machine's own apt configuration names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pte_trace.errors import HostError, UsageError
from pte_trace.lab.tools import Runner

INDEX_TARGETS = (
    "apt-get",
    "indextargets",
    "--format",
    "$(SITE) $(RELEASE) $(COMPONENT)",
    "Created-By: Packages",
)

_SUITES = {
    *("buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid"),
    *("oldoldstable", "oldstable", "stable", "testing", "unstable", "experimental"),
}
_SECURITY = "-security"


@dataclass(frozen=True)
class Archives:
    """Where suites come from; `security` is None where apt's configuration names none."""

    main: str
    security: str | None


def parse(lines: Iterable[str]) -> Archives | None:
    """From the output of INDEX_TARGETS; None where no Debian suite is among it."""
    main = security = None
    for line in lines:
        fields = line.split(" ")
        if len(fields) != 3 or fields[2] != "main" or fields[0].startswith("cdrom:"):
            continue
        site, release, _ = fields
        # Until Debian 10 it was SUITE/updates; derivatives share no suite name with Debian.
        if release.split("-")[0] not in _SUITES:
            continue
        if release.endswith(_SECURITY):
            security = security or site
        else:
            main = main or site
    return Archives(main, security) if main else None


def find(runner: Runner, mirror: str | None) -> Archives:
    """This machine's archives, or `mirror`. Raises what `choose` does."""
    shown = runner(INDEX_TARGETS, Path("/"))
    return choose(parse(shown.stdout.splitlines()), mirror)


def choose(configured: Archives | None, mirror: str | None) -> Archives:
    """The mirror for all but security updates where one is given, else what apt has.

    UsageError for a mirror that is no URL, HostError where apt knows no Debian archive.
    """
    if mirror is None:
        if configured is None:
            raise HostError(
                "This machine's apt configuration names no Debian archive.",
                "Name one with the --mirror URL of pte-trace lab fetch or build.",
            )
        return configured
    if "://" not in mirror or mirror.split() != [mirror]:
        raise UsageError(
            f"--mirror {mirror} is not a URL.", "Give the URL that has dists/ and pool/ below it."
        )
    return Archives(mirror, configured.security if configured else None)
