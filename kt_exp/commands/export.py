"""`kt-exp export RUN`: a fine-tuned model as a whole checkpoint, with a model card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kt_exp.checkpoints import FORMATS
from kt_exp.commands.parser import CommandParser


def run(arguments: Sequence[str]) -> int:
    """Export one model and print where it is."""
    options = _parser().parse_args(arguments)
    from kt_exp.checkpoints.export import card_of, export_model  # they import torch
    from kt_exp.checkpoints.find import find_model
    from kt_exp.concepts import folder_name

    found = find_model(options.run, options.concept)
    names = [concept.name for concept in found.concepts]
    slug = folder_name(names[0]) if len(names) == 1 else "all_concepts"
    out = options.out or options.run / "exports" / f"{slug}-{options.format}"
    print(export_model(found.model, card_of(found, options.license), out, options.format))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser("export")
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run")
    parser.add_argument("--concept", metavar="X",
                        help="the concept whose model it is; needed where a run has several models")
    parser.add_argument("--format", choices=FORMATS, default="native",
                        help="open_clip: a local-dir; hf: a CLIPModel of transformers; native (the "
                             "default): the format of the model's own library")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="a new or empty folder; by default RUN/exports/CONCEPT-FORMAT")
    parser.add_argument("--license", metavar="ID",
                        help="the model card's licence (mit, apache-2.0, …); by default that of "
                             "the base model")
    return parser
