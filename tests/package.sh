#!/bin/sh
# package.sh PACKAGE.deb PROGRAM: the life of the Debian package, where it was never installed. It
# is run as root in a guest, in a minimal root, without a network; see tests/package.py.
set -e
package=$1
program=$2
# Not that of the checkout, which the lab puts first.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
# What root keeps for root is not the package's to remove.
export XDG_CACHE_HOME=/run

. tests/used.sh

step "before"
files >/tmp/before
fails getent passwd pte-trace

step "installed"
dpkg -i "$package"
pte-trace --version
test -s /usr/share/man/man1/pte-trace.1.gz || test ! -d /usr/share/man
getent passwd pte-trace

used "sudo /usr/lib/pte-trace/bin/python3"

step "serve, as its user"
. /etc/default/pte-trace
served setpriv --reuid pte-trace --regid pte-trace --clear-groups --inh-caps +bpf,+perfmon \
	--ambient-caps +bpf,+perfmon --bounding-set -all,+bpf,+perfmon \
	env CACHE_DIRECTORY=/tmp/cache pte-trace serve $OPTIONS

step "upgraded: settings stay"
echo 'OPTIONS="--by-pid"' >/etc/default/pte-trace
dpkg-deb -R "$package" /tmp/newer
sed -i 's/^Version: .*/&+next/' /tmp/newer/DEBIAN/control
dpkg-deb -b /tmp/newer /tmp/newer.deb
dpkg -i /tmp/newer.deb
dpkg-query -W -f '${Version}\n' pte-trace | grep '+next$'
grep 'OPTIONS="--by-pid"' /etc/default/pte-trace
pte-trace --version

step "purged: nothing is left"
dpkg --purge pte-trace
files >/tmp/after
diff /tmp/before /tmp/after
fails getent passwd pte-trace
step "done"
