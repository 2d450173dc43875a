"""The same saga on other engines, in turns with ours: `make bench-peers`."""
