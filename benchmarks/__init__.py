"""Ratios against named peers, side by side, physics checked first: `python -m benchmarks.<name>`."""
