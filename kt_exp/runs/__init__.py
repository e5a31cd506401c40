"""Running one job, from its config to its output folder."""
