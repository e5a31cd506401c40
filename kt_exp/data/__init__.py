"""Images, captions and names on disk: no model, no metric."""
