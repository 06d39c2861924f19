#!/bin/sh
# enter.sh ROOT COMMAND...: run COMMAND, in this directory, where ROOT is the root file system.
# It is left as it is: what is written goes to memory. Run it in a mount namespace of its own.
set -e
root=$1
shift
here=$PWD
modules=lib/modules/$(uname -r)

mount -t tmpfs suite /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay suite -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
cd /mnt/root
for each in proc sys dev; do mount --rbind "/$each" "$each"; done
mkdir -p ".$here" "$modules" run/tmp/suite/upper
mount --rbind "$here" ".$here"
# What is written there, where virtme-ng would have it: see tests/kernel/leftovers.py.
mount --bind /mnt/upper run/tmp/suite/upper
mount --bind "$(readlink -f "/$modules")" "$modules"
pivot_root . mnt
umount -l /mnt
cd "$here"
exec "$@"
