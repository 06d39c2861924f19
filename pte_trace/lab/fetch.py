"""Bring the stock kernel of a Debian suite into the cache."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pte_trace.errors import HostError, PteTraceError
from pte_trace.lab import archives, cache, tools
from pte_trace.lab.apt import KEYRING, Suite
from pte_trace.lab.archives import Archives
from pte_trace.lab.kernels import Kernel, in_root, package_of
from pte_trace.lab.progress import Progress


@dataclass(frozen=True)
class Fetcher:
    """Fetches into one cache; `mirror` stands in for the archive that apt has configured."""

    cache: Path
    progress: Progress
    mirror: str | None = None
    runner: tools.Runner = tools.run
    keyring: Path = KEYRING

    def fetch(self, names: Iterable[str]) -> None:
        """Bring each suite's newest kernel; a failing one does not keep the others back.

        One HostError at the end for all that failed.
        """
        found = archives.find(self.runner, self.mirror)
        errors: list[PteTraceError] = []
        for name in names:
            try:
                with self._alone():
                    self._fetch(name, found)
            except PteTraceError as error:
                errors.append(error)
        if errors:
            raise HostError(
                " ".join(dict.fromkeys(error.what for error in errors)),
                " ".join(dict.fromkeys(error.mend for error in errors)),
            )

    def ensure(self, name: str) -> Kernel:
        """The kernel from the cache, fetched first where it is missing."""
        if kernel := cache.find(self.cache, name):
            return kernel
        found = archives.find(self.runner, self.mirror)
        with self._alone():
            # Another process may have fetched it while this one waited.
            return cache.find(self.cache, name) or self._fetch(name, found)

    def _alone(self) -> AbstractContextManager[None]:
        waiting = "Waiting for another pte-trace lab to end its fetch"
        return cache.locked(self.cache, lambda: self.progress.say(waiting))

    def _fetch(self, name: str, found: Archives) -> Kernel:
        of_suite, wanted = package_of(name)
        lists = self.cache / "apt" / of_suite
        suite = Suite(of_suite, found, lists, self.runner, self.keyring, wanted)
        with self.progress.step(f"{name}: reading the package lists"):
            suite.update()
            release, packages = suite.kernel()
        kernel = cache.find(self.cache, name)
        if kernel and kernel.root.name == release:
            self.progress.say(f"{name}: {release} is the newest, nothing to fetch")
            return kernel
        with cache.new_entry(cache.entries(self.cache, name), release) as root:
            with self.progress.step(f"{name}: downloading {release}"):
                suite.download(packages, root)
            with self.progress.step(f"{name}: unpacking {release}"):
                self._unpack(root, release)
            if in_root(name, root) is None:
                raise HostError(
                    f"The packages of {release} hold no kernel with modules.",
                    "Report this with the output of: pte-trace lab fetch " + name,
                )
        self.progress.say(f"{name}: {release} fetched")
        kernel = cache.find(self.cache, name)
        assert kernel is not None
        return kernel

    def _unpack(self, root: Path, release: str) -> None:
        for package in sorted(root.glob("*.deb")):
            tools.check(self.runner, ["dpkg-deb", "-x", package.name, "."], root)
            package.unlink()
        if not (root / "lib").exists():
            (root / "lib").symlink_to("usr/lib")
        tools.check(self.runner, ["depmod", "-b", str(root), release], root)
