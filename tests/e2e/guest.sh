#!/bin/sh
# In a guest: GUEST_DIRECTORY is shared with the host, WORKLOADS has the test programs.
set -e
cd "$1"
workloads=$2

# What one run of the workload is, counted by `run`: from its fork on, as `serve` sees it.
workload='"$0" 101; "$0" 101 shared; :'
pte-trace run --format json -o run.json -- sh -c "$workload" "$workloads/toggle" >toggle.json

# Their time is shown where the kernel measures it.
echo 1 >/proc/sys/kernel/bpf_stats_enabled

pte-trace serve --listen :9818 --label fleet=demo 2>serve.log &
until grep -q Listening serve.log; do
	kill -0 $!
	sleep 1
done
for run in 1 2 3; do
	sh -c "$workload" "$workloads/toggle" >toggle.json
done
touch counted

while :; do
	"$workloads/demo"
	# Its faults are avoidable on Linux 6.1 too.
	"$workloads/huge" 23 >/dev/null
	"$workloads/mappings" 5 >/dev/null 2>&1 || :
	sleep 1
done
