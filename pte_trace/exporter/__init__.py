"""The Prometheus exporter: snapshots in, bounded series of counters out, over HTTP."""
