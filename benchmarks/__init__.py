"""Benchmarks of a clone; `python -m benchmarks` lists them. Not part of what is installed."""
