# PostgreSQL with a small pgbench: forked backends that share their buffers.
set -e
PATH="$(echo /usr/lib/postgresql/*/bin):$PATH"
export PATH dir="$(mktemp -d)"
chown postgres "$dir"
cd "$dir"
exec setpriv --reuid=postgres --regid=postgres --clear-groups sh -ec '
	initdb -D data --no-sync >/dev/null
	pg_ctl -D data -w -o "-k $dir -h \"\" -F" -l log start >/dev/null
	pgbench -h "$dir" -i -q postgres 2>/dev/null
	pgbench -h "$dir" -c 2 -t 100 postgres >/dev/null 2>&1
	pg_ctl -D data -w -m fast stop >/dev/null'
