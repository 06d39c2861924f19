#!/bin/sh
# pipx.sh WHEELS PROGRAM: what pipx installs from a checkout, with Debian's BCC: install, use,
# install anew, remove. Run as root in a guest, in a minimal root, without a network; see
# tests/package.py.
set -e
wheels=$1
program=$2
# As README has it: root's command, where sudo finds it.
export PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin
PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Nothing else is looked at.
export PIP_NO_INDEX=1 PIP_FIND_LINKS="$wheels" PIP_DISABLE_PIP_VERSION_CHECK=1
export XDG_CACHE_HOME=/run HOME=/run/home
mkdir -p /run/home /tmp/source
. tests/used.sh

# Where a checkout can be written to, as somebody's own can.
cp -r pyproject.toml README.md LICENSE bpf pte_trace share /tmp/source

step "before"
files >/tmp/before

step "installed"
(cd /tmp/source && pipx install --system-site-packages .)
pte-trace --version
pipx list --short | grep '^pte-trace '
du -sm /opt/pipx/venvs/pte-trace

used "sudo /opt/pipx/venvs/pte-trace/bin/python3"

step "serve"
served pte-trace serve

step "installed anew"
sed -i 's/^\(__version__ = "[^"]*\)"/\1.post1"/' /tmp/source/pte_trace/__init__.py
(cd /tmp/source && pipx install --force --system-site-packages .)
pte-trace --version | grep 'post1$'

step "removed: nothing is left but pipx's own"
pipx uninstall pte-trace
files | grep -v '^/opt/pipx' >/tmp/after
diff /tmp/before /tmp/after
fails test -e /opt/pipx/venvs/pte-trace
step "done"
