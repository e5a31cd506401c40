"""`kt-exp predict RUN_OR_EXPORT IMAGES_FOLDER`: label a folder of images."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kt_exp.commands.parser import CommandParser


def run(arguments: Sequence[str]) -> int:
    """Write the labels and print how often each was given."""
    options = _parser().parse_args(arguments)
    from kt_exp.checkpoints import labelling  # imports torch
    from kt_exp.data.pictures import images_in
    from kt_exp.progress import progress

    known = labelling.read_names(options.names) if options.names else None
    images = images_in(options.images)
    classifier = labelling.read_classifier(options.source, options.concept)
    rows = classifier.label(images, classifier.names(known), progress)
    labelling.write_labels(rows, options.out)
    for name, count in Counter(row.label for row in rows if row.names).most_common():
        print(f"{count:>6}  {name}")
    if unreadable := [row.path for row in rows if not row.names]:
        print(f"kt-exp predict: {len(unreadable)} images could not be read: "
              f"{', '.join(unreadable[:5])}{' …' if len(unreadable) > 5 else ''}", file=sys.stderr)
    print(options.out)
    return 0


def _parser() -> CommandParser:
    parser = CommandParser("predict")
    parser.add_argument("source", type=Path, metavar="RUN_OR_EXPORT",
                        help="the folder of a run, or of a model that kt-exp export wrote in the "
                             "format open_clip or hf")
    parser.add_argument("images", type=Path, metavar="IMAGES_FOLDER",
                        help="images at any depth")
    parser.add_argument("--names", type=Path, metavar="FILE",
                        help="known names, one on each line; by default the known classes of the "
                             "run. The names that the model was taught are always candidates")
    parser.add_argument("--concept", metavar="X",
                        help="which of a run's models; needed where it has several")
    parser.add_argument("--out", type=Path, metavar="FILE", default=Path("labels.csv"),
                        help="CSV: path, the five likeliest names and their scores (default: "
                             "labels.csv)")
    return parser
