# CRIU saves a program's memory twice while it runs; the second time, what was written since.
set -e
here=$(mktemp -d)
mkdir "$here/first" "$here/second"
/usr/bin/python3 -c '
import sys, time
memory = bytearray(16 << 20)
print("ready", flush=True)
while True:
    for at in range(0, len(memory), 8 * 4096):
        memory[at] = (memory[at] + 1) % 256
    time.sleep(0.2)
' >"$here/said" </dev/null 2>&1 &
program=$!
until grep -q ready "$here/said"; do sleep 0.2; done
criu pre-dump --shell-job --track-mem -t $program -D "$here/first"
sleep 3
criu pre-dump --shell-job --track-mem -t $program -D "$here/second" --prev-images-dir ../first
sleep 3
kill $program
wait $program || true
