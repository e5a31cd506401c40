"""What runs leave behind, as plain data: outcomes, records, summaries."""
