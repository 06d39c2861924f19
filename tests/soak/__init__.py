"""`serve` and the zoo in a guest, for as long as is asked for, with all that can go wrong."""
