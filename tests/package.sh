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

step() { echo "== $*"; }
fails() {
	if "$@"; then
		echo "should have failed: $*"
		exit 1
	fi
}
# What apt, dpkg and the linker's cache write for any package is not ours.
files() {
	find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /run \
		-o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache -o -path /var/log \
		-o -path "$PWD" -o -path /mnt \) -prune -o \( -name __pycache__ -prune \) -o -print |
		grep -v '^/etc/\(passwd\|shadow\|group\|gshadow\)-\?$' | sort
}
metrics() {
	python3 -c 'from urllib.request import urlopen
print(urlopen("http://127.0.0.1:9818/metrics").read().decode())' 2>/dev/null
}

step "before"
files >/tmp/before
fails getent passwd pte-trace

step "installed"
dpkg -i "$package"
pte-trace --version
test -s /usr/share/man/man1/pte-trace.1.gz || test ! -d /usr/share/man
getent passwd pte-trace

step "doctor"
pte-trace doctor

step "run"
pte-trace run --format json -o /tmp/run.json -- "$program" 23
python3 -c 'import json
rows = json.load(open("/tmp/run.json"))["vmas"]
assert any(row["ptes_made_writable"] == 23 for row in rows), rows'

step "record needs more, and says so"
fails pte-trace record -o /tmp/r.parquet -- "$program" 23 2>/tmp/said
grep 'sudo /usr/lib/pte-trace/bin/python3 -m pip install pandas plotly pyarrow' /tmp/said

step "serve, as its user"
. /etc/default/pte-trace
setpriv --reuid pte-trace --regid pte-trace --clear-groups --inh-caps +bpf,+perfmon \
	--ambient-caps +bpf,+perfmon --bounding-set -all,+bpf,+perfmon \
	env CACHE_DIRECTORY=/tmp/cache pte-trace serve $OPTIONS &
served=$!
until metrics | grep -q '^pte_trace_kernel_info'; do kill -0 $served; sleep 1; done
metrics | grep '^pte_trace_hook_attached'
kill $served
wait $served

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
