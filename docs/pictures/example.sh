#!/bin/sh
# What the pictures show: five programs of tests/workloads, over and over, for 12 readings.
# In a guest: pte-trace record -i 2 -o docs/pictures/example.parquet -- docs/pictures/example.sh
set -e
programs="demo jit arenas fork_child uffd_wp"
# Names of mappings are paths.
for each in $programs; do cp "build/workloads/$each" /tmp; done
cd /tmp
loops=
for each in $programs; do
	while :; do "./$each" 997 >/dev/null; done &
	loops="$loops $!"
done
sleep 24
kill $loops
