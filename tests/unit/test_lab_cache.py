"""A cache entry is there whole or not at all."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pte_trace import user_cache
from pte_trace.errors import HostError, UsageError
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
    assert cache.directory({"HOME": "/c"}) == Path("/c/.cache/pte-trace/lab")
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    assert cache.directory({}) == home / ".cache/pte-trace/lab"


@pytest.mark.parametrize(("owner", "mode"), [(1000, 0o755), (0, 0o777)])
def test_root_boots_nothing_that_another_user_can_have_put_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, mode: int
) -> None:
    found = list(tmp_path.lstat())
    found[stat.ST_UID], found[stat.ST_MODE] = owner, stat.S_IFDIR | mode
    monkeypatch.setattr(Path, "lstat", lambda _: os.stat_result(found))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(HostError, match="Another user can change the cache"):
        cache.directory({"PTE_TRACE_LAB_CACHE": str(tmp_path)})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cache.directory({"PTE_TRACE_LAB_CACHE": str(tmp_path)}) == tmp_path


@pytest.mark.parametrize(
    ("owner", "mode", "there", "taken"),
    [
        (1000, 0o755, True, False),
        (0, 0o777, True, False),
        (0, 0o1777, False, False),
        (0, 0o1777, True, True),
        (0, 0o755, False, True),
    ],
)
def test_root_boots_nothing_below_another_users_directory(
    tmp_path: Path,
    changed_by: Callable[[Path, int, int], None],
    owner: int,
    mode: int,
    there: bool,
    taken: bool,
) -> None:
    """Who owns the directory above can put another in the cache's place, unless it is sticky."""
    above = tmp_path / "above"
    lab = above / "lab"
    above.mkdir()
    if there:
        lab.mkdir()
    changed_by(above, owner, mode)
    environ = {"PTE_TRACE_LAB_CACHE": str(lab)}
    if taken:
        assert cache.directory(environ) == lab
    else:
        with pytest.raises(HostError, match="Another user can change the cache"):
            cache.directory(environ)


def test_the_labs_cache_is_no_link_that_somebody_could_change_later(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    environ = {"PTE_TRACE_LAB_CACHE": str(tmp_path / "link" / "lab")}
    assert cache.directory(environ) == tmp_path / "real" / "lab"


NAMED = {"XDG_CACHE_HOME": "pte-trace", "HOME": ".cache/pte-trace", "CACHE_DIRECTORY": ""}


@pytest.fixture
def changed_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int, int], None]:
    """Have root alone, which we are, change all that there is, except one that is another's."""

    def changed_by(theirs: Path, owner: int, mode: int) -> None:
        real = Path.lstat

        def lstat(path: Path) -> os.stat_result:
            found = list(real(path))
            found[stat.ST_UID] = owner if path == theirs else 0
            found[stat.ST_MODE] = stat.S_IFDIR | (mode if path == theirs else 0o755)
            return os.stat_result(found)

        monkeypatch.setattr(Path, "lstat", lstat)
        monkeypatch.setattr(os, "geteuid", lambda: 0)

    return changed_by


@pytest.mark.parametrize("variable", NAMED)
@pytest.mark.parametrize("part", [".", "real", "real/cache"])
@pytest.mark.parametrize(("owner", "mode"), [(1000, 0o755), (0, 0o775), (0, 0o757), (0, 0o1777)])
def test_roots_cache_is_not_where_another_user_can_change_it(
    tmp_path: Path,
    changed_by: Callable[[Path, int, int], None],
    variable: str,
    part: str,
    owner: int,
    mode: int,
) -> None:
    """As it would be by the variables of who called sudo, and those that `su` leaves."""
    (tmp_path / "real" / "cache").mkdir(parents=True)
    changed_by(tmp_path / part, owner, mode)
    environ = {variable: str(tmp_path / "real" / "cache")}
    assert user_cache.directory(environ) == Path("/root/.cache/pte-trace")


@pytest.mark.parametrize("variable", NAMED)
def test_roots_cache_is_where_the_environment_says_if_it_is_roots_alone(
    tmp_path: Path, changed_by: Callable[[Path, int, int], None], variable: str
) -> None:
    """By no link that somebody could change later."""
    (tmp_path / "real").mkdir()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "link").symlink_to(tmp_path / "real")
    changed_by(tmp_path / "theirs", 1000, 0o777)
    environ = {variable: str(tmp_path / "theirs" / "link" / "new")}
    assert user_cache.directory(environ) == tmp_path / "real" / "new" / NAMED[variable]


@pytest.mark.parametrize("user", [0, 4000000000])
def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch, user: int) -> None:
    def nobody(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(HostError, match="has no home directory"):
        user_cache.directory({})


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
