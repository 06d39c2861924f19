"""The image of deploy/Containerfile, built and run as a pod of the DaemonSet runs it.

python -m tests.image KERNEL

buildah builds it, on a minimal root of Debian's under the name of the image that it begins with. In
a guest with that kernel, without a network, it has the arguments and the capabilities that
deploy/kubernetes/daemonset.yaml gives it, and a root that it cannot write to. Run it as root.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from pte_trace.lab import cache
from pte_trace.lab.progress import Progress
from tests import suites
from tests.newcomer import let_in
from tests.package import PROGRAM, PROJECT, in_guest

_CONTAINERFILE = PROJECT / "deploy/Containerfile"
_DAEMONSET = PROJECT / "deploy/kubernetes/daemonset.yaml"
# As Debian's own images have it: what was unpacked is not kept.
_UNPACKED = (
    'DPkg::Post-Invoke {"rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true";};\n'
)


class Builder:
    """buildah, with a store of its own; it starts no container, so that it needs no runtime."""

    def __init__(self, directory: Path) -> None:
        places = ["--root", str(directory / "store"), "--runroot", str(directory / "run")]
        self._command = ["buildah", "--storage-driver", "vfs", *places]

    def __call__(self, *arguments: str) -> str:
        """What it prints, which is a name."""
        done = subprocess.run(
            [*self._command, *arguments],
            cwd=PROJECT,
            env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout.strip()


def base(name: str, build: Builder, directory: Path) -> None:
    """A minimal root under the *name* that the Containerfile begins with."""
    found = re.fullmatch(r"debian:(\w+)-slim", name)
    assert found is not None, name
    kept = suites.root(found[1], "bare", ("debian-archive-keyring",), Progress())
    root = directory / "base"
    subprocess.run(["cp", "--archive", kept, root], check=True)
    let_in(root)
    shutil.rmtree(root / "var/cache/apt/archives")
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)
    (root / "etc/apt/apt.conf.d/unpacked").write_text(_UNPACKED)
    empty = build("from", "scratch")
    build("copy", empty, str(root), "/")
    build("commit", "--quiet", "--rm", empty, name)


def main(kernel: str) -> int:
    (first,) = re.findall(r"^FROM (.+)$", _CONTAINERFILE.read_text(), re.MULTILINE)
    documents = yaml.safe_load_all(_DAEMONSET.read_text())
    (daemonset,) = (each for each in documents if each["kind"] == "DaemonSet")
    (container,) = daemonset["spec"]["template"]["spec"]["containers"]
    added = ",".join(
        f"+{name.lower()}" for name in container["securityContext"]["capabilities"]["add"]
    )
    arguments = [each.replace("$(NODE)", "node-7") for each in container["args"]]
    with tempfile.TemporaryDirectory(prefix="image-", dir=cache.directory()) as name:
        directory = Path(name)
        build = Builder(directory)
        base(first, build, directory)
        build("bud", "--pull-never", "--file", str(_CONTAINERFILE), "--tag", "pte-trace", ".")
        root = Path(build("mount", build("from", "--pull-never", "pte-trace")))
        for of in (directory / "base", root):
            subprocess.run(["du", "-sxm", of], check=True)
        return in_guest(root, kernel, "sh", "tests/image.sh", PROGRAM, added, *arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
