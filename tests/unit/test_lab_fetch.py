"""From a name to a cache entry, with the tools' part played by a function."""

from __future__ import annotations

import errno
import io
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from pte_trace.errors import HostError
from pte_trace.lab import cache
from pte_trace.lab.fetch import Fetcher
from pte_trace.lab.progress import Progress

TARGETS = "http://deb.example/debian bookworm main\n"


class Host:
    """A machine whose archive has one kernel, `release`, in each suite."""

    def __init__(self, release: str) -> None:
        self.release = release
        self.targets = TARGETS
        self.failing: dict[str, str] = {}
        self.calls: list[str] = []
        self.pointed_to_by = ""

    def __call__(self, argv: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        what = next((word for word in argv if word in ("update", "depends", "download")), argv[0])
        self.calls.append(what)
        if what in self.failing:
            return subprocess.CompletedProcess(argv, 100, "", self.failing[what])
        output = ""
        image = f"linux-image-{self.release}"
        match what:
            case "apt-get":
                output = self.targets
            case "depends" if argv[-1] in ("linux-image-amd64", "linux-image-rt-amd64"):
                self.pointed_to_by = argv[-1]
                output = f"{argv[-1]}\n  Depends: {image}\n"
            case "download":
                (cwd / f"{image}_1_amd64.deb").touch()
            case "dpkg-deb":
                modules = cwd / "usr/lib/modules" / self.release
                modules.mkdir(parents=True)
                (modules / "vmlinuz").touch()
            case "depmod":
                (cwd / "lib/modules" / self.release / "modules.dep").touch()
        return subprocess.CompletedProcess(argv, 0, output, "")


def fetcher(where: Path, host: Host, mirror: str | None = None) -> tuple[Fetcher, io.StringIO]:
    said = io.StringIO()
    keyring = where / "keys.gpg"
    keyring.touch()
    return Fetcher(where, Progress(Console(file=said)), mirror, host, keyring), said


def fetched(where: Path, name: str = "bookworm") -> str | None:
    kernel = cache.find(where, name)
    return kernel.release if kernel else None


def test_a_kernel_is_fetched_whole(tmp_path: Path) -> None:
    fetch, said = fetcher(tmp_path, Host("6.1.0-1-amd64"))
    fetch.fetch(["bookworm"])
    kernel = cache.find(tmp_path, "bookworm")
    assert kernel is not None
    assert kernel.release == "6.1.0-1-amd64"
    assert not list(kernel.root.glob("*.deb"))
    assert "bookworm: downloading 6.1.0-1-amd64\n" in said.getvalue()


def test_the_same_release_is_not_downloaded_again(tmp_path: Path) -> None:
    host = Host("6.1.0-1-amd64")
    fetch, said = fetcher(tmp_path, host)
    fetch.fetch(["bookworm"])
    fetch.fetch(["bookworm"])
    assert host.calls.count("download") == 1
    assert "6.1.0-1-amd64 is the newest" in said.getvalue()


def test_a_newer_release_takes_the_place_of_the_old(tmp_path: Path) -> None:
    host = Host("6.1.0-1-amd64")
    fetch, _ = fetcher(tmp_path, host)
    fetch.fetch(["bookworm"])
    host.release = "6.1.0-2-amd64"
    fetch.fetch(["bookworm"])
    assert fetched(tmp_path) == "6.1.0-2-amd64"
    assert len(list((tmp_path / "kernels/bookworm").iterdir())) == 1


def test_a_real_time_kernel_is_in_the_suite_of_the_others(tmp_path: Path) -> None:
    host = Host("6.1.0-1-rt-amd64")
    fetcher(tmp_path, host)[0].fetch(["bookworm-rt"])
    assert fetched(tmp_path, "bookworm-rt") == "6.1.0-1-rt-amd64"
    assert fetched(tmp_path) is None
    assert host.pointed_to_by == "linux-image-rt-amd64"
    assert "/debian bookworm main" in (tmp_path / "apt/bookworm/sources.list").read_text()


def test_a_half_made_entry_is_fetched_again(tmp_path: Path) -> None:
    host = Host("6.1.0-1-amd64")
    fetch, _ = fetcher(tmp_path, host)
    kernel = fetch.ensure("bookworm")
    kernel.vmlinuz.unlink()
    assert fetch.ensure("bookworm").vmlinuz.exists()
    assert host.calls.count("download") == 2


def test_ensure_asks_nobody_for_what_is_there(tmp_path: Path) -> None:
    host = Host("6.1.0-1-amd64")
    fetch, _ = fetcher(tmp_path, host)
    fetch.ensure("bookworm")
    before = len(host.calls)
    fetch.ensure("bookworm")
    assert len(host.calls) == before


@pytest.mark.parametrize(
    ("step", "message", "what"),
    [
        ("update", "E: Failed to fetch …  Could not resolve 'deb.example'", "cannot be reached"),
        ("download", "E: Failed to fetch …  404  Not Found", "has no suite bookworm"),
        ("dpkg-deb", "dpkg-deb: error: … No space left on device", "The disk that holds"),
        ("depmod", "depmod: ERROR: something odd", "depmod failed: depmod: ERROR: something odd"),
    ],
)
def test_a_failing_step_leaves_no_entry(tmp_path: Path, step: str, message: str, what: str) -> None:
    host = Host("6.1.0-1-amd64")
    host.failing[step] = message
    fetch, _ = fetcher(tmp_path, host)
    with pytest.raises(HostError, match=what):
        fetch.fetch(["bookworm"])
    assert fetched(tmp_path) is None
    assert not list(tmp_path.glob("kernels/bookworm/*"))


def test_packages_without_a_kernel_are_refused(tmp_path: Path) -> None:
    class Empty(Host):
        def __call__(self, argv: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
            if argv[0] in ("dpkg-deb", "depmod"):
                return subprocess.CompletedProcess(argv, 0, "", "")
            return super().__call__(argv, cwd)

    fetch, _ = fetcher(tmp_path, Empty("6.1.0-1-amd64"))
    with pytest.raises(HostError, match="hold no kernel"):
        fetch.fetch(["bookworm"])
    assert fetched(tmp_path) is None


def test_a_suite_that_fails_does_not_keep_the_others_back(tmp_path: Path) -> None:
    class Moved(Host):
        def __call__(self, argv: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
            if "update" in argv and cwd.name == "bullseye":
                gone = "E: The repository '… bullseye Release' does not have a Release file."
                return subprocess.CompletedProcess(argv, 100, "", gone)
            return super().__call__(argv, cwd)

    fetch, _ = fetcher(tmp_path, Moved("6.1.0-1-amd64"))
    with pytest.raises(HostError, match="has no suite bullseye") as caught:
        fetch.fetch(["bullseye", "bookworm"])
    assert caught.value.mend.count("--mirror") == 1
    assert fetched(tmp_path) == "6.1.0-1-amd64"


@pytest.mark.parametrize(
    ("number", "what"), [(errno.ENOSPC, "is full"), (errno.EACCES, "cannot be written")]
)
def test_a_disk_that_refuses_is_named(tmp_path: Path, number: int, what: str) -> None:
    class Refusing(Host):
        def __call__(self, argv: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
            if argv[0] == "dpkg-deb":
                raise OSError(number, "refused")
            return super().__call__(argv, cwd)

    fetch, _ = fetcher(tmp_path, Refusing("6.1.0-1-amd64"))
    with pytest.raises(HostError, match=what) as caught:
        fetch.fetch(["bookworm"])
    assert "PTE_TRACE_LAB_CACHE" in caught.value.mend


def test_a_machine_without_debian_archive_needs_a_mirror(tmp_path: Path) -> None:
    host = Host("6.1.0-1-amd64")
    host.targets = "http://archive.example/ubuntu noble main\n"
    with pytest.raises(HostError, match="no Debian archive"):
        fetcher(tmp_path, host)[0].fetch(["sid"])
    fetcher(tmp_path, host, "http://deb.example/debian")[0].fetch(["sid"])
    assert fetched(tmp_path, "sid") == "6.1.0-1-amd64"
