"""Short samples of what apt prints, and what the lab makes of them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from pte_trace.errors import HostError, UsageError
from pte_trace.lab import archives
from pte_trace.lab.apt import Suite
from pte_trace.lab.archives import Archives

TARGETS = """\
https://packages.example/apt cloud main
http://deb.example/debian bookworm main
http://deb.example/debian bookworm-updates main
http://security.example/debian-security bookworm-security main
https://node.example/node nodistro main
"""
SID = {
    "linux-image-amd64": """\
linux-image-amd64
  Depends: linux-base-amd64
  Depends: linux-image-7.2.13+deb14-amd64
""",
    "linux-image-7.2.13+deb14-amd64": """\
linux-image-7.2.13+deb14-amd64
  PreDepends: linux-base
 |Depends: initramfs-tools
  Depends: <linux-initramfs-tool>
    dracut
  Depends: linux-base-7.2.13+deb14-amd64
  Depends: linux-binary-7.2.13+deb14-amd64
  Breaks: linux-modules-7.2.13+deb14-amd64-old
  Suggests: linux-doc-7.2
""",
    "linux-base-7.2.13+deb14-amd64": "linux-base-7.2.13+deb14-amd64\n  Depends: linux-base\n",
    "linux-binary-7.2.13+deb14-amd64": """\
linux-binary-7.2.13+deb14-amd64
  Depends: linux-modules-7.2.13+deb14-amd64
  Depends: linux-base-7.2.13+deb14-amd64
""",
    "linux-modules-7.2.13+deb14-amd64": "linux-modules-7.2.13+deb14-amd64\n",
}


class Apt:
    """Answers as apt does; remembers what it was asked."""

    def __init__(self, failures: Sequence[str] = (), depends: dict[str, str] = SID) -> None:
        self.failures = list(failures)
        self.depends = depends
        self.sources: list[str] = []
        self.calls: list[list[str]] = []

    def __call__(self, argv: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        self.calls.append(list(argv))
        if argv[0] == "apt-cache":
            return subprocess.CompletedProcess(argv, 0, self.depends[argv[-1]], "")
        self.sources.append((cwd / "sources.list").read_text())
        message = self.failures.pop(0) if self.failures else ""
        return subprocess.CompletedProcess(argv, 100 if message else 0, "", message)


@pytest.fixture
def keyring(tmp_path: Path) -> Path:
    path = tmp_path / "keys.gpg"
    path.touch()
    return path


def suite(tmp_path: Path, apt: Apt, keyring: Path, name: str = "bookworm") -> Suite:
    where = Archives("http://deb.example/debian", "http://security.example/debian-security")
    return Suite(name, where, tmp_path / "apt", apt, keyring)


def test_archives_are_those_of_debian_suites() -> None:
    assert archives.parse(TARGETS.splitlines()) == Archives(
        "http://deb.example/debian", "http://security.example/debian-security"
    )


def test_no_security_archive_is_not_an_error() -> None:
    assert archives.parse(["http://deb.example/debian sid main"]) == Archives(
        "http://deb.example/debian", None
    )


def test_a_derivative_is_not_taken_for_debian() -> None:
    lines = ["http://archive.example/ubuntu noble main", "cdrom:[Debian_12]/ bookworm main", ""]
    assert archives.parse(lines) is None


def test_a_mirror_takes_the_place_of_the_main_archive_only() -> None:
    chosen = archives.choose(archives.parse(TARGETS.splitlines()), "http://near.example/debian")
    assert chosen == Archives(
        "http://near.example/debian", "http://security.example/debian-security"
    )


def test_no_archive_asks_for_a_mirror() -> None:
    with pytest.raises(HostError, match="names no Debian archive") as caught:
        archives.choose(None, None)
    assert "--mirror URL" in caught.value.mend


@pytest.mark.parametrize("mirror", ["deb.example/debian", "", "http://a b/"])
def test_a_mirror_must_be_a_url(mirror: str) -> None:
    with pytest.raises(UsageError, match="not a URL"):
        archives.choose(None, mirror)


def test_the_release_and_its_packages_are_followed(tmp_path: Path, keyring: Path) -> None:
    release, packages = suite(tmp_path, Apt(), keyring, "sid").kernel()
    assert release == "7.2.13+deb14-amd64"
    assert packages == [
        f"linux-{part}-{release}" for part in ("image", "base", "binary", "modules")
    ]


def test_a_suite_without_a_kernel_says_so(tmp_path: Path, keyring: Path) -> None:
    apt = Apt(depends={"linux-image-amd64": "linux-image-amd64\n"})
    with pytest.raises(HostError, match="points to no kernel"):
        suite(tmp_path, apt, keyring).kernel()


def test_the_systems_own_sources_are_not_used(tmp_path: Path, keyring: Path) -> None:
    apt = Apt()
    suite(tmp_path, apt, keyring).update()
    assert f"Dir::Etc::sourcelist={tmp_path}/apt/sources.list" in apt.calls[0]
    assert "Dir::Etc::sourceparts=-" in apt.calls[0]
    assert f"Dir::State::lists={tmp_path}/apt/lists" in apt.calls[0]


def test_a_suite_past_its_security_support_is_read_without(tmp_path: Path, keyring: Path) -> None:
    apt = Apt(["E: The repository '… bookworm-security' does not have a Release file."])
    suite(tmp_path, apt, keyring).update()
    assert [text.count("\n") for text in apt.sources] == [2, 1]
    assert f"signed-by={keyring}] http://deb.example/debian bookworm main" in apt.sources[1]


def test_sid_has_no_security_suite(tmp_path: Path, keyring: Path) -> None:
    apt = Apt()
    suite(tmp_path, apt, keyring, "sid").update()
    assert [text.count("\n") for text in apt.sources] == [1]


@pytest.mark.parametrize(
    ("message", "what", "mend"),
    [
        (
            "E: The repository 'http://deb.example/debian bookworm Release' does not have a "
            "Release file.",
            "has no suite bookworm",
            "--mirror URL of pte-trace lab fetch",
        ),
        (
            "E: Failed to fetch http://deb.example/…/InRelease  Could not resolve 'deb.example'",
            "cannot be reached",
            "--mirror URL",
        ),
        (
            "E: Failed to fetch …  Could not connect to 127.0.0.1:9 (127.0.0.1). - connect (111)",
            "cannot be reached",
            "network",
        ),
        ("W: GPG error: … NO_PUBKEY 6ED0E7B82643E131", "signature", "debian-archive-keyring"),
        ("E: Write error - write (28: No space left on device)", "full", "PTE_TRACE_LAB_CACHE"),
        ("W: A warning\nE: Something else", "Something else", "--mirror"),
    ],
)
def test_why_apt_failed(tmp_path: Path, keyring: Path, message: str, what: str, mend: str) -> None:
    with pytest.raises(HostError) as caught:
        suite(tmp_path, Apt([message] * 2), keyring).update()
    assert what in caught.value.what
    assert mend in caught.value.mend


def test_missing_keys_name_their_package(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        suite(tmp_path, Apt(), tmp_path / "none.gpg").update()
    assert caught.value.mend == "sudo apt install debian-archive-keyring"
