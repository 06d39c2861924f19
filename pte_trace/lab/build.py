"""Bring a pair of the lab's own kernels into the cache, built from Debian's source."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pte_trace.errors import HostError, UsageError
from pte_trace.lab import archives, cache, kbuild, tools
from pte_trace.lab.apt import KEYRING, Suite
from pte_trace.lab.kernels import Kernel
from pte_trace.lab.progress import Progress
from pte_trace.lab.series import Series, edit, series_of


def all_cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Builder:
    """Builds into one cache, `jobs` commands at a time. UsageError for less than one.

    `mirror` stands in for the archive that apt has configured.
    """

    cache: Path
    progress: Progress
    jobs: int = field(default_factory=all_cpus)
    mirror: str | None = None
    runner: tools.Runner = tools.run
    make: kbuild.Make = kbuild.make
    keyring: Path = KEYRING

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UsageError(f"{self.jobs} jobs build nothing.", "Give --jobs 1 or more.")

    def build(self, series: Series) -> None:
        """Build the pair, unless it is there and nothing that goes into it has changed.

        HostError where a tool is missing, the source cannot be had or does not compile.
        """
        tools.check_build_tools(self.runner)
        found = archives.find(self.runner, self.mirror)
        suite = Suite(
            series.suite, found, self.cache / "apt" / series.suite, self.runner, self.keyring
        )
        with self._only_build():
            with self.progress.step(f"{series.package}: reading the package lists"), self._alone():
                suite.update()
                version = suite.version(series.package)
            entry = f"{version}-{self._key(series, version)}"
            if all(self._built(name) == entry for name in series.edits):
                names = " and ".join(series.edits)
                self.progress.say(f"{names}: {version} is the newest, nothing to build")
                return
            self._build(series, suite, version, entry)

    def ensure(self, name: str) -> Kernel:
        """The kernel from the cache, its pair built first where it is missing."""
        kernel = cache.find(self.cache, name)
        if kernel is None:
            self.build(series_of(name))
            kernel = cache.find(self.cache, name)
            assert kernel is not None
        return kernel

    def _only_build(self) -> AbstractContextManager[None]:
        waiting = "Waiting for another pte-trace lab to end its build"
        return cache.locked(self._workplace, lambda: self.progress.say(waiting))

    def _alone(self) -> AbstractContextManager[None]:
        waiting = "Waiting for another pte-trace lab to end its fetch"
        return cache.locked(self.cache, lambda: self.progress.say(waiting))

    @property
    def _workplace(self) -> Path:
        return self.cache / "build"

    def _built(self, name: str) -> str | None:
        kernel = cache.find(self.cache, name)
        return kernel.root.name if kernel else None

    def _key(self, series: Series, version: str) -> str:
        compiler = tools.check(self.runner, ["gcc", "--version"], self.cache).splitlines()[0]
        edits = {
            name: change and [change.pattern, change.replacement]
            for name, change in series.edits.items()
        }
        asked = dict.fromkeys(kbuild.fragment(series.left_out.get(name, ())) for name in edits)
        went_in = [version, "".join(asked), edits, compiler]
        return hashlib.sha256(json.dumps(went_in).encode()).hexdigest()[:12]

    def _build(self, series: Series, suite: Suite, version: str, entry: str) -> None:
        work = self._workplace / "tree"
        # Left by a build that was killed.
        shutil.rmtree(work, ignore_errors=True)
        try:
            work.mkdir()
            self._compile(series, version, self._source(series, suite, work), work)
            self._store(series, work, entry)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        self.progress.say(f"{' and '.join(series.edits)}: built from {series.package} {version}")

    def _source(self, series: Series, suite: Suite, work: Path) -> Path:
        with self.progress.step(f"{series.package}: downloading"), self._alone():
            suite.download([series.package], work)
        with self.progress.step(f"{series.package}: unpacking"):
            for package in list(work.glob("*.deb")):
                tools.check(self.runner, ["dpkg-deb", "-x", package.name, "."], work)
                package.unlink()
            for archive in list(work.glob("usr/src/*.tar.xz")):
                tools.check(self.runner, ["tar", "-xf", str(archive)], work)
                archive.unlink()
        trees = list(work.glob("linux-source-*/"))
        if not trees:
            raise HostError(
                f"{series.package} holds no source tree.",
                "Build from another archive: pte-trace lab build --mirror URL.",
            )
        return trees[0]

    def _compile(self, series: Series, version: str, source: Path, work: Path) -> None:
        tree = kbuild.Tree(source, self.runner, self.make, self.jobs)
        what = f"{' and '.join(series.edits)}: compiling {version}"
        codes: set[str] = set()
        with self.progress.work(what, series.steps) as step:
            for name, change in series.edits.items():
                if change:
                    edit(source, change)
                tree.configure(series.left_out.get(name, ()))
                suffix = "-" + name.partition("-")[0]
                release = tree.compile(name, suffix, step)
                if series.is_pair:
                    codes.add(tree.code())
                self._stage(source, release, work / name)
        if len(codes) > 1:
            raise HostError(
                f"{' and '.join(series.edits)} differ in more than mprotect_fixup().",
                "Build with another compiler, or from another archive with --mirror URL.",
            )

    def _stage(self, source: Path, release: str, root: Path) -> None:
        """Put what a kernel is booted and debugged with where Debian's packages have it."""
        boot, modules = root / "boot", root / "lib/modules" / release
        boot.mkdir(parents=True)
        modules.mkdir(parents=True)
        shutil.copy(source / "arch/x86/boot/bzImage", boot / f"vmlinuz-{release}")
        shutil.copy(source / ".config", boot / f"config-{release}")
        shutil.copy(source / "System.map", boot / f"System.map-{release}")
        # Where drgn looks for the types of the running kernel.
        shutil.copy(source / "vmlinux", modules / "vmlinux")
        for built_in in source.glob("modules.builtin*"):
            shutil.copy(built_in, modules)
        (modules / "modules.order").touch()
        tools.check(self.runner, ["depmod", "-b", str(root), release], root)

    def _store(self, series: Series, work: Path, entry: str) -> None:
        """All or none: a pair is compared."""
        with self._alone(), ExitStack() as entries:
            for name in series.edits:
                root = entries.enter_context(
                    cache.new_entry(cache.entries(self.cache, name), entry)
                )
                for made in (work / name).iterdir():
                    made.rename(root / made.name)
