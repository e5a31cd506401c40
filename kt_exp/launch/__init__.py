"""The jobs of a multirun elsewhere than in this process: on SLURM, or in other local processes."""
