# A Redis that saves its data in the background, by a child, while values are replaced.
set -e
cd "$(mktemp -d)"
redis-server --port 0 --unixsocket "$PWD/socket" --save '' --appendonly no --dir "$PWD" >/dev/null &
asked() { redis-cli -s "$PWD/socket" "$@"; }
until [ -S socket ] && asked ping >/dev/null 2>&1; do sleep 0.5; done
asked debug populate 20000 key 500 >/dev/null
for _ in 1 2; do
	asked bgsave >/dev/null
	asked eval 'for i = 0, 2999 do redis.call("setrange", "key:" .. (i * 6), 0, "changed" .. i) end' 0 >/dev/null
	while asked info persistence | grep -q rdb_bgsave_in_progress:1; do sleep 0.5; done
done
asked shutdown nosave || true
wait
