"""`make bench`: how fast the exchange is, on real engines, beside the goals that it has. `docs/benchmarks.md` explains each row."""
