# CRIU saves what a program wrote to since the last time: soft-dirty tracking. It takes no program
# that has files open of whoever traces this.
set -e
cd "$(mktemp -d)"
setsid python3 -c '
import time
memory = bytearray(8 << 20)
while True:
    for page in range(0, len(memory), 4096):
        memory[page] = (memory[page] + 1) % 256
    time.sleep(0.2)' </dev/null >/dev/null 2>&1 3>&- 4>&- 5>&- &
program=$!
sleep 1
before=
for time in 1 2 3; do
	mkdir $time
	criu pre-dump -t $program -D $time $before --track-mem -v1
	before="--prev-images-dir ../$time"
	sleep 1
done
kill $program
