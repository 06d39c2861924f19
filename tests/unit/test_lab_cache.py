"""A cache entry is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from pte_trace import user_cache
from pte_trace.errors import UsageError
from pte_trace.lab import cache
from pte_trace.lab.kernels import KERNELS, check_names


def fill(root: Path, release: str, vmlinuz: str) -> None:
    modules = root / "lib" / "modules" / release
    modules.mkdir(parents=True)
    (modules / "modules.dep").touch()
    (root / vmlinuz).parent.mkdir(exist_ok=True)
    (root / vmlinuz).write_text("kernel")


def make(where: Path, name: str, release: str) -> None:
    with cache.new_entry(cache.entries(where, name), release) as root:
        fill(root, release, f"boot/vmlinuz-{release}")


def test_an_entry_is_found(tmp_path: Path) -> None:
    make(tmp_path, "bookworm", "6.1.0-1-amd64")
    kernel = cache.find(tmp_path, "bookworm")
    assert kernel is not None
    assert kernel.release == "6.1.0-1-amd64"
    assert kernel.vmlinuz.read_text() == "kernel"
    assert kernel.root.stat().st_mode & 0o777 == 0o755


def test_sids_kernel_lies_among_its_modules(tmp_path: Path) -> None:
    release = "7.2.13+deb14-amd64"
    with cache.new_entry(cache.entries(tmp_path, "sid"), release) as root:
        (root / "usr" / "lib").mkdir(parents=True)
        (root / "lib").symlink_to("usr/lib")
        fill(root, release, f"usr/lib/modules/{release}/vmlinuz")
    kernel = cache.find(tmp_path, "sid")
    assert kernel is not None
    assert kernel.vmlinuz == kernel.root / "lib" / "modules" / release / "vmlinuz"


def test_nothing_is_found_in_an_empty_cache(tmp_path: Path) -> None:
    assert cache.find(tmp_path / "none", "sid") is None


@pytest.mark.parametrize("missing", ["boot/vmlinuz-1-amd64", "lib/modules/1-amd64/modules.dep"])
def test_a_part_of_an_entry_is_not_one(tmp_path: Path, missing: str) -> None:
    make(tmp_path, "sid", "1-amd64")
    (tmp_path / "kernels/sid/1-amd64" / missing).unlink()
    assert cache.find(tmp_path, "sid") is None


def test_an_entry_being_made_is_not_found(tmp_path: Path) -> None:
    with cache.new_entry(cache.entries(tmp_path, "sid"), "1-amd64") as root:
        fill(root, "1-amd64", "boot/vmlinuz-1-amd64")
        assert cache.find(tmp_path, "sid") is None


def test_a_newer_entry_takes_the_place_of_the_old(tmp_path: Path) -> None:
    make(tmp_path, "sid", "1-amd64")
    make(tmp_path, "sid", "2-amd64")
    assert [path.name for path in (tmp_path / "kernels/sid").iterdir()] == ["2-amd64"]


def test_a_failure_keeps_the_old_entry(tmp_path: Path) -> None:
    make(tmp_path, "sid", "1-amd64")
    entries = cache.entries(tmp_path, "sid")
    with pytest.raises(OSError, match="full"), cache.new_entry(entries, "2-amd64"):
        raise OSError("full")
    assert [path.name for path in (tmp_path / "kernels/sid").iterdir()] == ["1-amd64"]


def test_what_a_killed_fetch_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "kernels/sid/.new-abc/lib").mkdir(parents=True)
    make(tmp_path, "sid", "1-amd64")
    assert [path.name for path in (tmp_path / "kernels/sid").iterdir()] == ["1-amd64"]


def test_the_lock_says_that_it_waits(tmp_path: Path) -> None:
    said: list[str] = []

    class StopWaitingError(Exception):
        pass

    def waiting() -> None:
        said.append("waiting")
        raise StopWaitingError

    with (
        cache.locked(tmp_path, waiting),
        pytest.raises(StopWaitingError),
        cache.locked(tmp_path, waiting),
    ):
        pass
    assert said == ["waiting"]
    with cache.locked(tmp_path, waiting):
        pass


def test_where_the_cache_is() -> None:
    both = {"PTE_TRACE_LAB_CACHE": "/a", "XDG_CACHE_HOME": "/b"}
    assert cache.directory(both) == Path("/a")
    assert cache.directory({"XDG_CACHE_HOME": "/b"}) == Path("/b/pte-trace/lab")
    assert cache.directory({}) == Path.home() / ".cache/pte-trace/lab"


def test_roots_cache_is_not_that_of_who_called_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    environ = {"SUDO_UID": "1000", "HOME": "/home/a", "XDG_CACHE_HOME": "/home/a/cache"}
    assert user_cache.directory(environ) == Path("/root/.cache/pte-trace")


def test_a_services_cache_is_the_one_that_systemd_made_it() -> None:
    environ = {"CACHE_DIRECTORY": "/var/cache/pte-trace", "HOME": "/"}
    assert user_cache.directory(environ) == Path("/var/cache/pte-trace")


def test_size_is_what_the_disk_holds(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"x" * 8192)
    (tmp_path / "link").symlink_to("deep/file")
    assert cache.size(tmp_path) >= 8192


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match="no kernel `buster`") as caught:
        check_names(["sid", "buster"])
    assert all(name in caught.value.mend for name in KERNELS)
