"""benchmark: latency of exported files on targets, compared with a baseline; probes of single operators."""
