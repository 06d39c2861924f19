"""The command line of `pte-trace lab`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pte_trace.commands.lab import lab
from pte_trace.errors import HostError, UsageError
from pte_trace.lab import run
from pte_trace.lab.kernels import BUILT, KERNELS


def invoke(cache: Path, *arguments: str) -> Result:
    return CliRunner().invoke(lab, arguments, env={"PTE_TRACE_LAB_CACHE": str(cache)})


def add(cache: Path, name: str, release: str) -> None:
    root = cache / "kernels" / name / release
    (root / "boot").mkdir(parents=True)
    (root / "boot" / f"vmlinuz-{release}").write_bytes(b"x" * 4096)
    (root / "lib" / "modules" / release).mkdir(parents=True)
    (root / "lib" / "modules" / release / "modules.dep").touch()


def test_an_empty_cache_lists_all_kernels(tmp_path: Path) -> None:
    lines = invoke(tmp_path, "list").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(KERNELS)
    for name, line in zip(KERNELS, lines[1:], strict=True):
        assert ("not built" if name in BUILT else "not fetched") in line
    assert max(map(len, lines)) < 140


def test_the_list_as_json(tmp_path: Path) -> None:
    add(tmp_path, "sid", "7-amd64")
    rows = {
        row["name"]: row for row in json.loads(invoke(tmp_path, "list", "--format=json").stdout)
    }
    assert list(rows) == list(KERNELS)
    assert rows["sid"]["release"] == "7-amd64"
    assert rows["sid"]["state"] == "fetched"
    assert rows["sid"]["bytes"] >= 4096
    assert rows["bookworm"] == {
        "name": "bookworm",
        "release": None,
        "state": "not fetched",
        "what": KERNELS["bookworm"],
        "bytes": None,
    }


@pytest.mark.parametrize("ports", ["9818", "a:b", "1:", ":1", "1:2:3", "-1:5"])
def test_ports_are_pairs(tmp_path: Path, ports: str) -> None:
    result = invoke(tmp_path, "run", "--forward", ports, "--", "true")
    assert result.exit_code == 2
    assert "not a pair of ports" in result.output


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["fetch", "buster"], "no kernel `buster`"),
        (["build", "5.10"], "the series `5.10`"),
        (["build", "--jobs", "0"], "0 jobs"),
        (["build", "--mirror", "deb.example"], "not a URL"),
        (["run", "--kernel", "buster", "--", "true"], "no kernel `buster`"),
        (["run", "--cpus", "0", "--", "true"], "0 CPUs"),
        (["run", "--memory", "lots", "--", "true"], "lots is not a size"),
        (["run", "--forward", "0:80", "--", "true"], "0 is not a port"),
        (["run", "--icount", "--cpus", "2", "--", "true"], "one CPU only"),
        (["run", "--timeout", "0", "--", "true"], "within 0 s"),
        (["run", "--append", "two words", "--", "true"], "not a kernel option"),
        (["run", "--rwdir", "/nonexistent", "--", "true"], "not a directory"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[str], what: str) -> None:
    error = invoke(tmp_path, *arguments).exception
    assert isinstance(error, UsageError)
    assert what in error.what
    assert error.exit_status == 2


def test_a_missing_tool_is_told_before_a_kernel_is_fetched_or_kvm_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, path = tmp_path / "cache", tmp_path / "path"
    path.mkdir()
    for name in ("qemu-system-x86_64", "busybox", "file", "depmod"):
        (path / name).touch(mode=0o755)
    monkeypatch.setattr("pte_trace.lab.tools.search_path", lambda: str(path))

    error = invoke(cache, "run", "--kernel", "sid", "--", "true").exception
    assert isinstance(error, HostError)
    assert error.what == "virtme-ng is not installed."
    assert "pip install virtme-ng" in error.mend
    assert not cache.exists()


def test_a_command_is_needed(tmp_path: Path) -> None:
    result = invoke(tmp_path, "run", "--kernel", "sid")
    assert result.exit_code == 2
    assert "COMMAND" in result.stderr


@pytest.mark.parametrize("command", ["list", "fetch", "build", "run"])
def test_each_command_has_help(tmp_path: Path, command: str) -> None:
    assert "Usage:" in invoke(tmp_path, command, "--help").stdout


def test_the_interface_for_tests_checks_the_same() -> None:
    with pytest.raises(UsageError, match="no kernel `buster`"):
        run("buster", ["true"])
    with pytest.raises(UsageError, match="one CPU only"):
        run("sid", ["true"], icount=True, cpus=2)
