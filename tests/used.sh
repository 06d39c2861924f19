# What an installed pte-trace must do, wherever it came from; sourced by package.sh, pipx.sh and
# image.sh, with the path of tests/workloads' toggle as $program.

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
# All that uses it once, but the exporter.
used() {
	step "doctor"
	pte-trace doctor

	step "run"
	pte-trace run --format json -o /tmp/run.json -- "$program" 23
	python3 -c 'import json
rows = json.load(open("/tmp/run.json"))["vmas"]
assert any(row["ptes_made_writable"] == 23 for row in rows), rows'

	step "record needs more, and says so"
	fails pte-trace record -o /tmp/r.parquet -- "$program" 23 2>/tmp/said
	cat /tmp/said
	grep -q "$1 -m pip install pandas plotly pyarrow" /tmp/said
}
# "$@" becomes an exporter; it is asked for what the program has done, and ended.
served() {
	"$@" &
	served=$!
	until metrics | grep -q '^pte_trace_kernel_info'; do kill -0 $served; sleep 1; done
	metrics | grep '^pte_trace_hook_attached'
	"$program" 23 >/dev/null
	until metrics | grep '^pte_trace_ptes_made_writable_total.*comm="toggle".* 23\.0$'; do
		kill -0 $served
		sleep 1
	done
	kill $served
	wait $served
}
