"""Fine-tuned models on disk: the changes beside a run, whole checkpoints and their model cards."""

FORMATS = ("native", "open_clip", "hf")  # of `export.export_model`
