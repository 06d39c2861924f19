"""What others can do: clients of `serve`, strangers' files and programs; and what must hold."""
