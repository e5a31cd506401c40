"""Tables, plots and pages of runs: reads their records, never models."""
