"""The BPF programs: their text, what is compiled of it, and their way into the kernel."""
