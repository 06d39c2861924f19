"""Unit, container and pod from the path of a cgroup, as systems really name them."""

from __future__ import annotations

import pytest

from pte_trace.counted.where import Where, directory_of_unit, where

A = "3f1e0c5a9b7d4286e1f0a3c5b7d9e2f48160a4c8e2f6b0d4987531fedcba0246"
B = "b" * 64
UID = "0f4c3a5e-7b1d-4c2a-9e8f-1a2b3c4d5e6f"
WITH_UNDERSCORES = UID.replace("-", "_")
STATIC = "2c9a1f0be4d35786a1b2c3d4e5f60718"
BURSTABLE = "/kubepods.slice/kubepods-burstable.slice"


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("/", None),
        ("", None),
        ("/init.scope", "init.scope"),
        ("/system.slice", None),
        ("/system.slice/nginx.service", "nginx.service"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
        ("/system.slice/nginx.service/workers/1", "nginx.service"),
        ("/system.slice/_cpu.service", "cpu.service"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", "init.scope"),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-x\\x2dy.scope",
            "app-gnome-x\\x2dy.scope",
        ),
        ("/system.slice/run-credentials.mount", "run-credentials.mount"),
        ("/system.slice/dbus.socket", "dbus.socket"),
        ("/service", None),
        ("/.service", None),
        ("/nginx.service.d", None),
        ("/a\nb.service", "a\nb.service"),
        ("/made-by-hand/service", None),
    ],
)
def test_systemd(cgroup: str, unit: str | None) -> None:
    assert where(cgroup) == Where(unit=unit)


@pytest.mark.parametrize(
    ("cgroup", "found"),
    [
        (f"/docker/{A}", Where(container=A)),
        (f"/system.slice/docker-{A}.scope", Where(f"docker-{A}.scope", A)),
        (
            f"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{A}.scope",
            Where(f"docker-{A}.scope", A),
        ),
        (f"/machine.slice/libpod-{A}.scope", Where(f"libpod-{A}.scope", A)),
        (f"/machine.slice/libpod-{A}.scope/container", Where(f"libpod-{A}.scope", A)),
        (
            f"/machine.slice/libpod-{A}.scope/container/system.slice/nginx.service",
            Where("nginx.service", A),
        ),
        (f"/machine.slice/libpod-conmon-{A}.scope", Where(f"libpod-conmon-{A}.scope")),
        (f"/libpod_parent/libpod-{A}", Where(container=A)),
        (f"/libpod_parent/libpod-conmon-{A}", Where()),
        (
            f"/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope",
            Where(f"libpod-{A}.scope", A, B),
        ),
        (f"/system.slice/containerd.service/{A}", Where("containerd.service", A)),
        (f"/default/{A}", Where(container=A)),
        # A container in a container: the innermost.
        (f"/system.slice/docker-{A}.scope/docker/{B}", Where(f"docker-{A}.scope", B)),
        # What only looks like one.
        (f"/docker/{A[:-1]}", Where()),
        (f"/docker/{A}0", Where()),
        (f"/docker/{A.upper()}", Where()),
        (f"/docker-{A}.slice", Where()),
        (f"/a\n-{A}.scope", Where(f"a\n-{A}.scope", A)),
    ],
)
def test_docker_podman_and_containerd(cgroup: str, found: Where) -> None:
    assert where(cgroup) == found


@pytest.mark.parametrize(
    ("cgroup", "found"),
    [
        # containerd and CRI-O, by systemd.
        (
            f"{BURSTABLE}/kubepods-burstable-pod{WITH_UNDERSCORES}.slice/cri-containerd-{A}.scope",
            Where(f"cri-containerd-{A}.scope", A, UID),
        ),
        (
            f"{BURSTABLE}/kubepods-burstable-pod{WITH_UNDERSCORES}.slice/crio-{A}.scope",
            Where(f"crio-{A}.scope", A, UID),
        ),
        (
            f"{BURSTABLE}/kubepods-burstable-pod{WITH_UNDERSCORES}.slice/crio-{A}.scope/container",
            Where(f"crio-{A}.scope", A, UID),
        ),
        (
            f"{BURSTABLE}/kubepods-burstable-pod{WITH_UNDERSCORES}.slice/crio-conmon-{A}.scope",
            Where(f"crio-conmon-{A}.scope", None, UID),
        ),
        # Guaranteed, and a static pod, whose uid is a hash.
        (
            f"/kubepods.slice/kubepods-pod{WITH_UNDERSCORES}.slice/docker-{A}.scope",
            Where(f"docker-{A}.scope", A, UID),
        ),
        (
            f"{BURSTABLE}/kubepods-burstable-pod{STATIC}.slice/cri-containerd-{A}.scope",
            Where(f"cri-containerd-{A}.scope", A, STATIC),
        ),
        # By directories.
        (f"/kubepods/burstable/pod{UID}/{A}", Where(None, A, UID)),
        (f"/kubepods/besteffort/pod{UID}/{A}", Where(None, A, UID)),
        (f"/kubepods/pod{UID}/crio-{A}", Where(None, A, UID)),
        (f"/kubepods/pod{STATIC}/{A}", Where(None, A, STATIC)),
        (f"/kubepods/burstable/pod{UID}", Where(None, None, UID)),
        # kind: a node that is a container.
        (
            f"/system.slice/docker-{B}.scope/kubelet.slice/kubelet-kubepods.slice"
            f"/kubelet-kubepods-besteffort.slice"
            f"/kubelet-kubepods-besteffort-pod{WITH_UNDERSCORES}.slice/cri-containerd-{A}.scope",
            Where(f"cri-containerd-{A}.scope", A, UID),
        ),
        # containerd by directories, the kubelet by systemd.
        (
            f"/system.slice/containerd.service/kubepods-burstable-pod{WITH_UNDERSCORES}.slice"
            f":cri-containerd:{A}",
            Where("containerd.service", A, UID),
        ),
        ("/kubepods/burstable/pod1234", Where()),
        ("/kubepods.slice/kubepods-burstable.slice", Where()),
    ],
)
def test_kubernetes(cgroup: str, found: Where) -> None:
    assert where(cgroup) == found


@pytest.mark.parametrize(
    ("unit", "directory"),
    [
        ("nginx.service", "nginx.service"),
        ("_x.service", "__x.service"),
        (".x.service", "_.x.service"),
        ("cpu.service", "_cpu.service"),
        ("memory.scope", "_memory.scope"),
        ("cgroup.service", "_cgroup.service"),
        ("cpus.service", "cpus.service"),
    ],
)
def test_a_unit_that_could_be_a_file_of_the_kernels_has_another_directory(
    unit: str, directory: str
) -> None:
    assert directory_of_unit(unit) == directory
    assert where(f"/system.slice/{directory}").unit == unit
