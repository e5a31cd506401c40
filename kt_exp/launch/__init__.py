"""Launchers that run the jobs of a multirun on SLURM or in other local processes."""
