"""One run from its config to its result.json, whatever happens in between."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from PIL import Image

from kt_exp import artifacts, interrupts
from kt_exp.captions import training_captions
from kt_exp.config import Config, parse
from kt_exp.diagnosis import Diagnosis
from kt_exp.errors import EXIT_BAD_INPUT, UserError
from kt_exp.pipeline import Experiment, Findings, prepare, run
from kt_exp.report.checkout import git_state
from kt_exp.report.console import print_diagnosis, print_summary, progress
from kt_exp.report.record import (
    FILE_NAME,
    ConceptEntry,
    RunRecord,
    collect_versions,
    write_record,
)
from kt_exp.report.record import Diagnosis as DiagnosisEntry

log = logging.getLogger(__name__)

TRACEBACK = "traceback.txt"


def run_job(cfg: DictConfig) -> int:
    """Run one job in Hydra's output folder; leave result.json there however it ends.

    Returns the exit code: 0 completed, 1 failed, 2 bad input. What went wrong is logged in one
    line; the traceback of a failure that is not the user's goes to traceback.txt.

    Raises:
        KeyboardInterrupt: stopped from outside.
    """
    interrupts.sigterm_interrupts()
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    record = RunRecord(
        command=[Path(sys.argv[0]).name, *sys.argv[1:]], config={},
        overrides=list(hydra.overrides.task), versions=collect_versions(), git=git_state(),
    )
    write_record(record, folder)
    try:
        _run(cfg, record, folder)
    except KeyboardInterrupt:
        record.close("interrupted")
        log.error("Interrupted: the same command goes on where it stopped.")
        raise
    except Exception as error:
        record.close("failed", error)
        return _report_error(error, folder, cfg.traceback)
    finally:
        record.files["result"] = FILE_NAME
        write_record(record, folder)
    print_summary(record, folder)
    return 0


def _run(cfg: DictConfig, record: RunRecord, folder: Path) -> None:
    start = time.perf_counter()
    record.config = _plain(cfg)
    config = parse(cfg)
    experiment = prepare(config)
    record.seconds["setup"] = round(time.perf_counter() - start, 3)
    _describe(record, config, experiment)
    print_diagnosis(record.concepts)
    _run_tracked(config, experiment, record, folder)


def _plain(cfg: DictConfig) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    except OmegaConfBaseException as error:
        key = error.full_key or "config"
        raise UserError(key, f"cannot be resolved: {str(error).splitlines()[0]}") from error


def _report_error(error: Exception, folder: Path, show_traceback: bool) -> int:
    if isinstance(error, UserError):
        log.error("kt-exp: error: %s", error, exc_info=show_traceback)
        return EXIT_BAD_INPUT
    path = folder / TRACEBACK
    path.write_text(traceback.format_exc(), encoding="utf-8")
    log.error("kt-exp: error: %s: %s (traceback: %s)", type(error).__name__,
              " ".join(str(error).split()), path, exc_info=show_traceback)
    return 1


def _run_tracked(config: Config, experiment: Experiment, record: RunRecord,
                 folder: Path) -> None:
    tracker = config.tracker
    tracker.start(record, folder)
    findings = Findings.empty()
    pictures: dict[str, list[Image.Image]] = {}
    try:
        for findings in run(experiment, progress):
            _gather(record, findings)
            write_record(record, folder)
            if findings.inverted and not pictures:
                pictures = artifacts.save_inverted(experiment, findings, folder, record)
        if config.finetune.save_models:
            artifacts.save_models(experiment, findings, folder, record)
        record.close("completed")
    except KeyboardInterrupt as error:
        record.close("interrupted", error)
        raise
    except BaseException as error:
        record.close("failed", error)
        raise
    finally:
        _gather(record, findings)
        artifacts.write_report(record, folder, pictures, artifacts.target_pictures(experiment))
        _track(tracker, record, pictures)


def _track(tracker, record: RunRecord, pictures: dict[str, list[Image.Image]]) -> None:
    for stage, value in (("inversion", "score"), ("finetune", "loss")):
        for name, curve in record.curves.get(stage, {}).items():
            for step, number in zip(curve["steps"], curve[value], strict=True):
                tracker.log(stage, name, step, {value: number})
    for name, images in pictures.items():
        tracker.images("inversion", name, images)
    tracker.finish(record)


def _describe(record: RunRecord, config: Config, experiment: Experiment) -> None:
    record.seed = config.seed
    record.device = artifacts.device_name(experiment.model.device)
    for concept, diagnosis in zip(experiment.concepts, experiment.diagnoses, strict=True):
        caption = training_captions(concept, config.finetune.captions, config.finetune.templates)
        record.concepts.append(ConceptEntry(name=concept.name, description=concept.description,
                                            caption=caption[0], diagnosis=_as_entry(diagnosis)))


def _as_entry(diagnosis: Diagnosis) -> DiagnosisEntry:
    return DiagnosisEntry(
        tokens=diagnosis.tokens, token_limit=diagnosis.token_limit, cosine=diagnosis.cosine,
        nearest=[list(pair) for pair in diagnosis.nearest], warning=diagnosis.warning,
    )


def _gather(record: RunRecord, findings: Findings) -> None:
    """Put what the stages found into the record, in plain types."""
    record.seconds |= findings.seconds
    record.signatures = findings.signatures
    record.reused = findings.reused
    outcomes = [outcome.to_json() for outcome in findings.outcomes]
    record.metrics = [row for outcome in outcomes for row in outcome["metrics"]]
    record.confusions = [row for outcome in outcomes for row in outcome["confusions"]]
    record.warnings = _warnings(findings)
    record.curves = {
        "inversion": {
            name: {key: entry.record[key] for key in ("steps", "score", "distance", "start", "end")}
            for name, entry in findings.inverted.items()
        },
        "finetune": {taught.group.name: taught.curve for taught in findings.taught},
    }


def _warnings(findings: Findings) -> list[str]:
    warnings = [
        f"{name}: the {entry.record['distance']} score did not rise in inversion "
        f"({entry.record['start']:.2f} → {entry.record['end']:.2f})"
        for name, entry in findings.inverted.items()
        if entry.record["end"] <= entry.record["start"]
    ]
    skipped = sorted({path for outcome in findings.outcomes for path in outcome.skipped})
    if skipped:
        warnings.append(f"{len(skipped)} unreadable images skipped: {', '.join(skipped[:5])}"
                        + (" …" if len(skipped) > 5 else ""))
    return warnings
