"""From a series to two cache entries, with the tools' part played by functions."""

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
from pte_trace.lab.build import Builder
from pte_trace.lab.kbuild import (
    FRAGMENT,
    Made,
    Step,
    complaint,
    environment,
    fragment,
    make,
    unmet,
)
from pte_trace.lab.progress import Progress, time_left
from pte_trace.lab.series import SERIES, Series

SOURCE = """\
static long change_pte_range(struct mmu_gather *tlb)
\t\ttry_change_writable = !!(vma->vm_flags & VM_WRITE);
"""
PAIR = ("patched", "unpatched")


class Host:
    """A machine with an archive whose source package has one version, and a compiler."""

    def __init__(self) -> None:
        self.version = "6.1.9-1"
        self.compiler = "gcc 12"
        self.missing = ""
        self.has_libelf = True
        self.config = FRAGMENT.read_text()
        self.code = {"patched": "change_pte_range change_protection\n"}
        self.made = {"patched": Made(0, ""), "unpatched": Made(0, "")}
        self.failing: dict[str, str] = {}
        self.calls: list[str] = []
        self.compiled: list[tuple[str, str]] = []

    def __call__(self, argv: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        what = next((word for word in argv if word in ("update", "show", "download")), argv[0])
        self.calls.append(what)
        if what in self.failing:
            return subprocess.CompletedProcess(argv, 100, "", self.failing[what])
        output, status = "", 0
        match what:
            case "sh":
                output = self.missing
            case "gcc" if "--version" in argv:
                output = f"{self.compiler}\nCopyright\n"
            case "gcc":
                status = 0 if self.has_libelf else 1
            case "apt-get":
                output = "http://deb.example/debian bookworm main\n"
            case "show":
                output = f"Package: {argv[-1]}\nVersion: {self.version}\n"
            case "download":
                (cwd / "linux-source.deb").touch()
            case "dpkg-deb":
                (cwd / "usr/src").mkdir(parents=True)
                (cwd / "usr/src/linux-source-6.1.tar.xz").touch()
            case "tar":
                (cwd / "linux-source-6.1/mm").mkdir(parents=True)
                (cwd / "linux-source-6.1/mm/mprotect.c").write_text(SOURCE)
            case "objdump":
                output = self.code.get(self.compiled[-1][0], self.code["patched"])
            case "depmod":
                (Path(argv[2]) / "lib/modules" / argv[3] / "modules.dep").touch()
        return subprocess.CompletedProcess(argv, status, output, "")

    def make(self, arguments: Sequence[str], tree: Path, step: Step) -> Made:
        if "allnoconfig" in arguments:
            (tree / ".config").write_text(self.config)
            return Made(0, "")
        name = next(word for word in arguments if word.startswith("LOCALVERSION=")).split("=-")[1]
        self.compiled.append((name, (tree / "mm/mprotect.c").read_text()))
        step(1)
        release = tree / "include/config/kernel.release"
        release.parent.mkdir(parents=True, exist_ok=True)
        release.write_text(f"6.1.9-{name}\n")
        (tree / "arch/x86/boot").mkdir(parents=True, exist_ok=True)
        for file in ("arch/x86/boot/bzImage", "System.map", "vmlinux", "modules.builtin"):
            (tree / file).write_text(name)
        return self.made[name]


def builder(where: Path, host: Host) -> tuple[Builder, io.StringIO]:
    said = io.StringIO()
    keyring = where / "keys.gpg"
    keyring.touch()
    progress = Progress(Console(file=said, width=200))
    return Builder(where, progress, 2, None, host, host.make, keyring), said


def built(where: Path) -> list[str | None]:
    kernels = [cache.find(where, name) for name in PAIR]
    return [kernel.release if kernel else None for kernel in kernels]


def test_a_pair_is_built_from_one_source(tmp_path: Path) -> None:
    host = Host()
    build, said = builder(tmp_path, host)
    build.build(SERIES["6.1"])
    assert built(tmp_path) == ["6.1.9-patched", "6.1.9-unpatched"]
    (_, first), (_, second) = host.compiled
    assert "noinline" in first
    assert set(second.splitlines()) - set(first.splitlines()) == {
        "\t\ttry_change_writable = false;"
    }
    assert host.calls.count("tar") == 1
    kernel = cache.find(tmp_path, "unpatched")
    assert kernel is not None
    assert kernel.vmlinuz.read_text() == "unpatched"
    assert (kernel.root / "lib/modules/6.1.9-unpatched/vmlinux").is_file()
    assert "linux-source-6.1: downloading\n" in said.getvalue()
    assert "built from linux-source-6.1 6.1.9-1\n" in said.getvalue()


def test_a_kernel_can_lack_options_and_is_compared_with_none(tmp_path: Path) -> None:
    host = Host()
    host.made["nobtf"] = Made(0, "")
    build, _ = builder(tmp_path, host)
    without = Series("6.1", "bookworm", {"nobtf": None}, 1, {"nobtf": ("DEBUG_INFO_BTF",)})
    with pytest.raises(HostError, match="cannot be configured with # CONFIG_DEBUG_INFO_BTF is not"):
        build.build(without)
    host.config = fragment(("DEBUG_INFO_BTF",))
    assert "CONFIG_DEBUG_INFO_BTF=y" not in host.config
    build.build(without)
    kernel = cache.find(tmp_path, "nobtf")
    assert kernel is not None
    assert kernel.release == "6.1.9-nobtf"
    ((_, source),) = host.compiled
    assert source == SOURCE
    assert "objdump" not in host.calls


def test_the_tree_does_not_stay(tmp_path: Path) -> None:
    builder(tmp_path, Host())[0].build(SERIES["6.1"])
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["lock"]


def test_what_a_killed_build_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "build/tree/linux-source-6.1/mm").mkdir(parents=True)
    builder(tmp_path, Host())[0].build(SERIES["6.1"])
    assert built(tmp_path) == ["6.1.9-patched", "6.1.9-unpatched"]


def test_what_is_built_is_not_built_again(tmp_path: Path) -> None:
    host = Host()
    build, said = builder(tmp_path, host)
    build.build(SERIES["6.1"])
    build.build(SERIES["6.1"])
    assert len(host.compiled) == 2
    assert "patched and unpatched: 6.1.9-1 is the newest, nothing to build\n" in said.getvalue()


@pytest.mark.parametrize(("what", "value"), [("version", "6.1.10-1"), ("compiler", "gcc 14")])
def test_what_went_in_decides_about_a_new_build(tmp_path: Path, what: str, value: str) -> None:
    host = Host()
    build, _ = builder(tmp_path, host)
    build.build(SERIES["6.1"])
    setattr(host, what, value)
    build.build(SERIES["6.1"])
    assert len(host.compiled) == 4
    assert len(list((tmp_path / "kernels/patched").iterdir())) == 1


def test_half_a_pair_is_built_again(tmp_path: Path) -> None:
    host = Host()
    build, _ = builder(tmp_path, host)
    build.build(SERIES["6.1"])
    kernel = cache.find(tmp_path, "unpatched")
    assert kernel is not None
    kernel.vmlinuz.unlink()
    build.build(SERIES["6.1"])
    assert built(tmp_path) == ["6.1.9-patched", "6.1.9-unpatched"]


def test_ensure_asks_nobody_for_what_is_there(tmp_path: Path) -> None:
    host = Host()
    build, _ = builder(tmp_path, host)
    assert build.ensure("unpatched").release == "6.1.9-unpatched"
    before = len(host.calls)
    build.ensure("patched")
    assert len(host.calls) == before


def test_a_compiler_error_is_shown_and_nothing_is_left(tmp_path: Path) -> None:
    host = Host()
    host.made["unpatched"] = Made(
        2, "mm/mprotect.c:5:1: error: expected ‘;’\nmake: *** [x] Error\n"
    )
    with pytest.raises(HostError, match=r"unpatched failed:\nmm/mprotect\.c:5:1: error") as caught:
        builder(tmp_path, host)[0].build(SERIES["6.1"])
    assert caught.value.exit_status == 3
    assert built(tmp_path) == [None, None]
    assert not list(tmp_path.glob("kernels/*/*"))
    assert not (tmp_path / "build/tree").exists()


def test_a_failed_build_keeps_the_old_pair(tmp_path: Path) -> None:
    host = Host()
    build, _ = builder(tmp_path, host)
    build.build(SERIES["6.1"])
    host.version, host.made["unpatched"] = "6.1.10-1", Made(2, "error: no")
    with pytest.raises(HostError):
        build.build(SERIES["6.1"])
    assert built(tmp_path) == ["6.1.9-patched", "6.1.9-unpatched"]


@pytest.mark.parametrize("where", ["tar", "dpkg-deb", "download", "make", "copy"])
def test_a_full_disk_is_named_and_nothing_is_left(tmp_path: Path, where: str) -> None:
    class Full(Host):
        def make(self, arguments: Sequence[str], tree: Path, step: Step) -> Made:
            if where == "copy":
                raise OSError(errno.ENOSPC, "full")
            return super().make(arguments, tree, step)

    host = Full()
    message = "x: write error: No space left on device"
    host.failing = {where: message}
    host.made["patched"] = Made(2, message if where == "make" else "")
    with pytest.raises(HostError, match=r"The disk that holds .* is full") as caught:
        builder(tmp_path, host)[0].build(SERIES["6.1"])
    assert "PTE_TRACE_LAB_CACHE" in caught.value.mend
    assert not (tmp_path / "build/tree").exists()
    assert built(tmp_path) == [None, None]


def test_all_missing_tools_are_named_at_once(tmp_path: Path) -> None:
    host = Host()
    host.missing, host.has_libelf = "gcc\npahole\n", False
    with pytest.raises(HostError, match="needs gcc, pahole") as caught:
        builder(tmp_path, host)[0].build(SERIES["6.1"])
    assert caught.value.mend == "sudo apt install gcc pahole"
    host.missing = ""
    with pytest.raises(HostError, match="needs libelf") as caught:
        builder(tmp_path, host)[0].build(SERIES["6.1"])
    assert caught.value.mend == "sudo apt install libelf-dev"
    assert set(host.calls) == {"sh", "gcc"}


def test_an_archive_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    host = Host()
    host.failing["update"] = "E: Failed to fetch …  Could not resolve 'deb.example'"
    with pytest.raises(HostError, match="cannot be reached"):
        builder(tmp_path, host)[0].build(SERIES["6.1"])


def test_a_suite_without_the_source_is_named(tmp_path: Path) -> None:
    host = Host()
    host.failing["show"] = "E: No packages found"
    with pytest.raises(HostError, match="does not have the package"):
        builder(tmp_path, host)[0].build(SERIES["6.1"])


def test_a_pair_that_differs_elsewhere_is_refused(tmp_path: Path) -> None:
    host = Host()
    host.code["unpatched"] = "change_pte_range change_protection other\n"
    with pytest.raises(HostError, match="differ in more than mprotect_fixup"):
        builder(tmp_path, host)[0].build(SERIES["6.1"])
    assert built(tmp_path) == [None, None]


def test_a_kernel_without_the_symbol_is_refused(tmp_path: Path) -> None:
    host = Host()
    host.code["patched"] = "change_protection\n"
    with pytest.raises(HostError, match="change_pte_range is no symbol"):
        builder(tmp_path, host)[0].build(SERIES["6.1"])


def test_an_option_that_the_source_cannot_have_is_named(tmp_path: Path) -> None:
    host = Host()
    host.config = host.config.replace("CONFIG_MEM_SOFT_DIRTY=y\n", "")
    with pytest.raises(HostError, match="configured with CONFIG_MEM_SOFT_DIRTY=y"):
        builder(tmp_path, host)[0].build(SERIES["6.1"])


def test_what_a_configuration_does_not_fulfil() -> None:
    asked = "# About\nCONFIG_A=y\nCONFIG_B=y\n\n# CONFIG_C is not set\n# CONFIG_D is not set\n"
    config = ["CONFIG_A=y", "# CONFIG_B is not set", "CONFIG_C=y"]
    assert unmet(asked, config) == ["CONFIG_B=y", "# CONFIG_C is not set"]
    assert unmet(asked, ["CONFIG_A=y", "CONFIG_B=y"]) == []


def test_the_complaint_begins_with_the_first_error() -> None:
    warnings = "".join(f"a.c:{line}: warning: dull\n" for line in range(50))
    assert complaint(warnings + "b.c:1: error: here\n  1 | x\nmake: *** Error 1\n") == (
        "b.c:1: error: here\n  1 | x\nmake: *** Error 1"
    )
    assert len(complaint("error: \n" * 50).splitlines()) < 20
    assert complaint("killed\n") == "killed"


def test_make_counts_the_commands_and_keeps_the_errors(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(
        "all:\n\t@echo '  CC      a.o'\n\t@echo ignored\n\t@echo '  LD      b'\n"
        "\t@echo $$KBUILD_BUILD_HOST $$LANGUAGE >host\n\t@echo broken >&2; exit 1\n"
    )
    steps: list[int] = []
    made = make(["all"], tmp_path, steps.append)
    assert made.status == 2
    assert made.errors.startswith("broken\n")
    assert sum(steps) == 2
    assert (tmp_path / "host").read_text() == "lab\n"


def test_make_does_not_hear_of_a_make_above_it() -> None:
    kept = environment({"HOME": "/h", "MAKEFLAGS": "-j9", "ARCH": "arm64", "LC_ALL": "de_DE"})
    assert kept["HOME"] == "/h"
    assert kept["LC_ALL"] == "C"
    assert not {"MAKEFLAGS", "ARCH"} & set(kept)


def test_a_pipe_gets_a_line_now_and_then() -> None:
    said = io.StringIO()
    now = iter(range(0, 10_000, 6))
    progress = Progress(Console(file=said, width=200), lambda: float(next(now)))
    with progress.work("compiling", 100) as advance:
        for _ in range(130):
            advance(1)
    lines = said.getvalue().splitlines()
    assert lines[:3] == [
        "compiling",
        "compiling: 10%, about 9 min left",
        "compiling: 20%, about 8 min left",
    ]
    assert lines[-1] == "compiling: 90%, about 1 min left"
    assert len(lines) == 10


def test_a_terminal_gets_a_bar() -> None:
    said = io.StringIO()
    progress = Progress(Console(file=said, force_terminal=True, width=100))
    with progress.work("compiling", 4) as advance:
        advance(2)
    assert "50%" in said.getvalue()


@pytest.mark.parametrize(
    ("elapsed", "fraction", "text"),
    [(0.0, 0.0, ""), (60.0, 0.1, "about 9 min left"), (60.0, 0.9, "less than a minute left")],
)
def test_the_estimate_goes_on_as_it_went(elapsed: float, fraction: float, text: str) -> None:
    assert time_left(elapsed, fraction) == text
