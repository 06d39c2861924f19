#!/bin/sh
# image.sh PROGRAM ADD COMMAND...: as a pod of the DaemonSet runs in the image that is the root here:
# of capabilities only those in ADD (+bpf,+perfmon), nothing that may be written to but /tmp and
# /root/.cache. See tests/image.py.
set -e
program=$1
add=$2
shift 2
PATH=/opt/pte-trace/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root
unset XDG_CACHE_HOME
. tests/used.sh

mkdir -p /etc/pte-trace /root/.cache
echo '{}' >/etc/pte-trace/web.yml
mount -t tmpfs tmp /tmp
mount -t tmpfs cache /root/.cache
mount -o remount,ro,bind /
fails touch /etc/written 2>/dev/null
in_pod() {
	setpriv --no-new-privs --inh-caps "-all,$add" --bounding-set "-all,$add" "$@"
}

step "doctor"
in_pod pte-trace doctor

step "run"
in_pod pte-trace run --format json -o /tmp/run.json -- "$program" 23
python3 -c 'import json
rows = json.load(open("/tmp/run.json"))["vmas"]
assert any(row["ptes_made_writable"] == 23 for row in rows), rows'

step "serve"
served setpriv --no-new-privs --inh-caps "-all,$add" --bounding-set "-all,$add" "$@"
step "done"
