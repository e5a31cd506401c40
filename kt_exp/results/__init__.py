"""Results of runs as plain data: outcomes, records, summaries."""
