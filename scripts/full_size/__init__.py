"""Parts of scripts/dry_runs.py: the paper's experiments at full size, with random weights."""
