"""Trials of scripts/torture.py: kills, full disks, damaged files, bad input."""
