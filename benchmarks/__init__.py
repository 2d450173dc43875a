"""How fast the whole system is: three processes on a real broker and a real database. `python -m benchmarks`."""
