"""Refusal of a job whose config is wrong, before torch is imported.

What this finds is all that needs no code of plug-ins: the sections of the config, values that
plug-ins lack, and the concepts. The job itself checks everything (kt_exp.runs.job).
"""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from kt_exp.atomic import clear_drafts
from kt_exp.concepts import load_concepts
from kt_exp.errors import UserError
from kt_exp.runs.new_record import new_record, write
from kt_exp.schema import parse_sections, to_plain

log = logging.getLogger(__name__)


def refused(cfg: DictConfig, folder: Path, command: list[str]) -> bool:
    """Return whether the config is wrong.

    If so, the error is logged, and `folder` gets a record that holds it.

    Raises:
        UserError: the record cannot be written.
    """
    record = new_record(command)
    try:
        record.config = to_plain(cfg)
        load_concepts(parse_sections(cfg).concepts)
    except UserError as error:
        record.close("failed", error)
        clear_drafts(folder)
        write(record, folder)
        log.error("kt-exp: error: %s", error, exc_info=bool(cfg.get("traceback")))
        return True
    return False
