"""Records, tables, pictures and trackers: reads results, never models."""
