"""What the running kernel tells and takes: its types, bpf(2), and what it allows."""
