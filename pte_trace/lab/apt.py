"""Read one Debian suite with apt, beside the system's own sources and without touching them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pte_trace.errors import HostError
from pte_trace.lab.archives import Archives
from pte_trace.lab.tools import Runner, disk_full, last_error

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Suites of which there are no security updates apart.
_WITHOUT_UPDATES = ("sid", "experimental")
_DEPENDENCY = re.compile(r"^ [ |](?:Pre)?Depends: (linux-\S+)$", re.MULTILINE)
_VERSION = re.compile(r"^Version: (\S+)$", re.MULTILINE)
# What apt says, what it means, what mends it. The first that fits is shown.
_REASONS = (
    (
        r"does not have a Release file|404 ",
        "The archive {archive} has no suite {suite}.",
        "Name an archive that has it with the --mirror URL of pte-trace lab fetch or build.",
    ),
    (
        r"No packages found",
        "The suite {suite} of {archive} does not have the package.",
        "Name an archive that has it with --mirror URL.",
    ),
    (
        r"NO_PUBKEY|EXPKEYSIG|not signed|signatures? (?:could not|couldn't)",
        "The signature of {suite} cannot be checked with this machine's Debian keys.",
        "sudo apt install debian-archive-keyring",
    ),
    (
        r"Could not resolve|Temporary failure|[Cc]ould not connect|Unable to connect|"
        r"Connection (?:failed|timed out|refused)|unreachable|[Tt]imed out",
        "The archive {archive} cannot be reached.",
        "Check the network and apt's proxy, or name another archive with --mirror URL.",
    ),
)


@dataclass(frozen=True)
class Suite:
    """One suite of the archives; `home` keeps its package lists from fetch to fetch."""

    name: str
    archives: Archives
    home: Path
    runner: Runner
    keyring: Path = KEYRING
    kernel_package: str = "linux-image-amd64"

    def update(self) -> None:
        """Read the package lists. HostError where the suite cannot be had."""
        if not self.keyring.exists():
            raise HostError(
                f"The keys of the Debian archive are missing ({self.keyring}).",
                "sudo apt install debian-archive-keyring",
            )
        for directory in ("lists/partial", "cache/archives/partial"):
            (self.home / directory).mkdir(parents=True, exist_ok=True)
        sources = [f"{self.archives.main} {self.name}"]
        if self.archives.security and self.name not in _WITHOUT_UPDATES:
            self._write([*sources, f"{self.archives.security} {self.name}-security"])
            if self._apt("apt-get", "update").returncode == 0:
                return
            # A suite past its support has no security updates any more: go on without.
        self._write(sources)
        self._apt("apt-get", "update", check=True)

    def kernel(self) -> tuple[str, list[str]]:
        """The release that the suite's kernel package points to, and the packages it is in."""
        wanted = "linux-image-"
        pointed_to = self._dependencies(self.kernel_package)
        image = [name for name in pointed_to if re.match(wanted + r"\d", name)]
        if not image:
            raise HostError(
                f"{self.kernel_package} of {self.name} points to no kernel.",
                "Name another archive with --mirror URL.",
            )
        release = image[0].removeprefix(wanted)
        packages = [image[0]]
        for package in packages:
            packages += [
                name
                for name in self._dependencies(package)
                if release in name and name not in packages
            ]
        return release, packages

    def version(self, package: str) -> str:
        """The package's newest version. HostError where the suite does not have it."""
        shown = self._apt("apt-cache", "show", "--no-all-versions", package, check=True).stdout
        version: str = _VERSION.findall(shown)[0]
        return version

    def download(self, packages: Sequence[str], into: Path) -> None:
        """Put the packages' .deb files into a directory. HostError where that fails."""
        self._apt("apt-get", "download", *packages, cwd=into, check=True)

    def _dependencies(self, package: str) -> list[str]:
        shown = self._apt("apt-cache", "depends", package, check=True).stdout
        return _DEPENDENCY.findall(shown)

    def _write(self, sources: Sequence[str]) -> None:
        lines = [f"deb [arch=amd64 signed-by={self.keyring}] {source} main\n" for source in sources]
        (self.home / "sources.list").write_text("".join(lines))

    def _apt(
        self, tool: str, *arguments: str, cwd: Path | None = None, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        settings = {
            "Dir::Etc::sourcelist": self.home / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": self.home / "lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": self.home / "cache",
            # Two files of 60 MB that save a second or two.
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "APT::Architecture": "amd64",
            # The user _apt, which root's downloads run as, cannot enter a private cache.
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",
            "Acquire::GzipIndexes": "true",
            "Acquire::Languages": "none",
        }
        options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        done = self.runner([tool, *options, *arguments], cwd or self.home)
        if check and done.returncode != 0:
            raise self._error(done.stdout + done.stderr)
        return done

    def _error(self, output: str) -> HostError:
        if "No space left on device" in output:
            return disk_full(self.home)
        for pattern, what, mend in _REASONS:
            if re.search(pattern, output):
                facts = {"archive": self.archives.main, "suite": self.name}
                return HostError(what.format(**facts), mend.format(**facts))
        return HostError(
            f"apt cannot read {self.name}: {last_error(output)}",
            "Try another archive with --mirror URL.",
        )
