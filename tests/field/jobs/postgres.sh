# PostgreSQL under pgbench, on a copy of the cluster that was made before.
set -e
bin=$(echo /usr/lib/postgresql/*/bin)
here=$(mktemp -d)
cp -r "$1" "$here/data"
chmod 0700 "$here/data"
chown -R postgres "$here"
as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
cd "$here"
as_postgres "$bin/postgres" -D "$here/data" -k "$here" -c listen_addresses= -c fsync=off \
	-c autovacuum=off >"$here/log" 2>&1 &
until as_postgres "$bin/pg_isready" -q -h "$here"; do sleep 0.5; done
as_postgres "$bin/pgbench" -h "$here" -n -c 2 -t "$2" postgres
# Not $!, which is a shell's that waits for it, and is deaf to SIGINT.
kill -INT "$(head -n 1 "$here/data/postmaster.pid")"
wait
