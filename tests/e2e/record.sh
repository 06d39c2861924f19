#!/bin/sh
# In a guest: DIRECTORY is shared with the host, WORKLOADS has the test programs.
set -e
cd "$1"
workloads=$2

pte-trace record -o recorded.parquet -r 5 -- "$workloads/demo"
pte-trace run --format json -o run.json -- "$workloads/demo"

# One execution, counted by both: the program waits until they have begun.
gate=$(mktemp -u)
mkfifo "$gate"
sh -c 'read -r go <"$0"; exec "$1" 1009' "$gate" "$workloads/toggle" >toggle.json &
program=$!
{
	until [ -s both.parquet ]; do sleep 1; done
	echo go >"$gate"
} &
pte-trace run --format json -o both.json -p "$program" -- \
	pte-trace record -o both.parquet -p "$program"
wait
