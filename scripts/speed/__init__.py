"""What scripts/bench.py measures, and against what."""
