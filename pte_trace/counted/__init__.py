"""What was counted: from the records of the kernel to one snapshot."""
