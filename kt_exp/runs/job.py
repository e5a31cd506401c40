"""One run, from its config to its result.json, which is written however the run ends."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from kt_exp import interrupts
from kt_exp.atomic import clear_drafts
from kt_exp.concepts.captions import training_captions
from kt_exp.errors import EXIT_BAD_INPUT, UserError
from kt_exp.pipeline import Experiment, RunState
from kt_exp.results.record import ConceptEntry, RunRecord, write_record
from kt_exp.runs.allocator import keep_freed_memory
from kt_exp.runs.artifacts import Artifacts, device_name
from kt_exp.runs.console import print_diagnosis, print_summary, progress
from kt_exp.runs.cost_lines import say_cost
from kt_exp.runs.new_record import command_line, new_record, write
from kt_exp.runs.progress_file import ProgressFile
from kt_exp.runs.recipe_line import say_recipe
from kt_exp.runs.run_folder import writing_to
from kt_exp.runs.session import Session
from kt_exp.runs.trackers import Tracker
from kt_exp.schema import Config, parse, to_plain
from kt_exp.standard_streams import print_if_possible

log = logging.getLogger(__name__)

TRACEBACK = "traceback.txt"


def run_job(cfg: DictConfig, session: Session) -> int:
    """Run one job of the command line in Hydra's output folder.

    Returns the exit code: 0 completed, 1 failed, 2 bad input. Errors are logged in one line. The
    traceback of an error that is not bad input goes to traceback.txt.

    Raises:
        KeyboardInterrupt: the process was told to stop.
    """
    interrupts.sigterm_interrupts()
    keep_freed_memory()
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        record = execute(cfg, folder, session, command_line(),
                         lambda concepts: print_if_possible(lambda: print_diagnosis(concepts)))
    except Exception as error:
        return _report_error(error, folder, show_traceback=bool(cfg.get("traceback")))
    print_if_possible(lambda: print_summary(record, folder))
    return 0


def execute(cfg: DictConfig, folder: Path, session: Session, command: list[str],
            on_diagnosis: Callable[[list[ConceptEntry]], None] = lambda concepts: None,
            ) -> RunRecord:
    """Run one job; return its record. `folder` gets it as result.json however the job ends.

    Args:
        command: the command that started the job, for the record.
        on_diagnosis: called with the concepts and their diagnoses before anything costly.

    Raises:
        UserError: bad input, or a file of the run that cannot be written.
        KeyboardInterrupt: the process was told to stop.
    """
    record = new_record(command)
    clear_drafts(folder)
    write(record, folder)
    with ExitStack() as ending:
        ending.callback(write, record, folder)
        try:
            _run(cfg, record, folder, session, on_diagnosis, ending)
        except KeyboardInterrupt:
            interrupts.caught()
            session.caches.clear_models()
            record.close("interrupted")
            log.error("Interrupted: the same command goes on where it stopped.")
            raise
        except Exception as error:
            session.caches.clear_models()
            record.close("failed", error)
            raise
    return record


def _run(cfg: DictConfig, record: RunRecord, folder: Path, session: Session,
         on_diagnosis: Callable[[list[ConceptEntry]], None], ending: ExitStack) -> None:
    """Run the stages; register in `ending` what has to be done however the run ends.

    The record is completed when all files but itself are written; it is written last.
    """
    start = time.perf_counter()
    record.config = to_plain(cfg)
    config = parse(cfg)
    shown = ending.enter_context(ProgressFile(folder, progress))
    shown.begin("setup")
    experiment = Experiment(config, shown, session.caches, shown.begin)
    _describe(record, config, experiment)
    record.seconds["setup"] = round(time.perf_counter() - start, 3)  # with the diagnosis
    say_recipe(session)
    on_diagnosis(record.concepts)
    say_cost(experiment)

    state, artifacts = experiment.state, Artifacts(experiment, record, folder)
    config.tracker.start(record, folder, _sweep())
    ending.callback(_attempt, "the tracker", lambda: config.tracker.finish(record))
    ending.callback(_attempt, "the tracker", lambda: _track(config.tracker, record, artifacts))
    ending.callback(_attempt, "the report", lambda: artifacts.write_results(state))
    ending.callback(_gather, record, state)
    for _ in experiment.run():
        _gather(record, state)
        with writing_to(folder):
            write_record(record, folder)
            artifacts.save_inverted(state)
        _attempt("the tracker", lambda: _track(config.tracker, record, artifacts))
    record.close("completed")
    with writing_to(folder):
        if config.finetune.save_models:
            artifacts.save_models(state)
        artifacts.write_results(state)


def _attempt(what: str, action: Callable[[], None]) -> None:
    """Run a final action; its failure is only logged, so as not to hide the run's own result."""
    try:
        action()
    except Exception as error:
        expected = isinstance(error, (UserError, OSError))
        log.warning("%s could not be completed: %s", what, error,
                    exc_info=None if expected else error)


def _report_error(error: Exception, folder: Path, show_traceback: bool) -> int:
    if isinstance(error, UserError):
        log.error("kt-exp: error: %s", error, exc_info=show_traceback)
        return EXIT_BAD_INPUT
    where: Path | str = folder / TRACEBACK
    try:
        Path(where).write_text(traceback.format_exc(), encoding="utf-8")
    except OSError:
        where = "traceback=true shows it"
    log.error("kt-exp: error: %s: %s (traceback: %s)", type(error).__name__,
              " ".join(str(error).split()), where, exc_info=show_traceback)
    return 1


def _sweep() -> Path | None:
    hydra = HydraConfig.get()
    return Path(hydra.sweep.dir) if hydra.mode == RunMode.MULTIRUN else None


def _track(tracker: Tracker, record: RunRecord, artifacts: Artifacts) -> None:
    """Send all curves and images so far to the tracker, which skips what it has."""
    for stage, value in (("inversion", "score"), ("finetune", "loss")):
        for name, curve in record.curves.get(stage, {}).items():
            tracker.curve(stage, name, value, curve["steps"], curve[value])
    for name, images in artifacts.pictures.items():
        tracker.images("inversion", name, images)


def _describe(record: RunRecord, config: Config, experiment: Experiment) -> None:
    record.seed = config.seed
    record.device = device_name(experiment.model.device)
    for concept, diagnosis in zip(experiment.concepts, experiment.diagnoses, strict=True):
        captions = training_captions(concept, config.finetune.captions, config.finetune.templates,
                                     config.finetune.article)
        record.concepts.append(ConceptEntry(
            name=concept.name, description=concept.description,
            caption=captions[0] if experiment.trains else "", diagnosis=diagnosis))


def _gather(record: RunRecord, state: RunState) -> None:
    """Copy the results of the stages into the record, as plain types."""
    record.seconds |= state.seconds
    record.peak_gib = state.peak_gib
    record.signatures = state.signatures
    record.reused = state.reused
    strengths = {name: w for model in state.finetuned for name, w in model.strengths.items()}
    for concept in record.concepts:
        concept.strength = strengths.get(concept.name)
    record.calibrations = list(state.calibrations.values())
    record.metrics, record.confusions, record.tradeoffs = [], [], []
    for outcome in state.outcomes:
        record.add_outcome(outcome)
    notes = [note for outcome in state.outcomes for note in outcome.notes]
    record.notes = list(dict.fromkeys([*_inversion_notes(state), *notes]))
    record.warnings = [*_inversion_warnings(state), *_skipped_warnings(state)]
    record.curves = {
        "inversion": {
            name: {key: entry.record[key] for key in ("steps", "score", "distance", "start", "end")}
            for name, entry in state.inverted.items()
        },
        "finetune": {model.group.name: model.curve for model in state.finetuned},
    }


def _inversion_notes(state: RunState) -> list[str]:
    cuts = {entry.record["layers"] for entry in state.inverted.values() if "layers" in entry.record}
    return [f"Inverted features (inversion.layers={layers}): no images." for layers in cuts]


def _inversion_warnings(state: RunState) -> list[str]:
    return [
        f"{name}: the {entry.record['distance']} score did not rise in inversion "
        f"({entry.record['start']:.2f} → {entry.record['end']:.2f})"
        for name, entry in state.inverted.items()
        if entry.record["end"] <= entry.record["start"]
    ]


def _skipped_warnings(state: RunState) -> list[str]:
    lists = [*(outcome.skipped for outcome in state.outcomes),
             *(calibration.skipped for calibration in state.calibrations.values())]
    skipped = sorted({path for paths in lists for path in paths})
    more = " …" if len(skipped) > 5 else ""
    return [f"{len(skipped)} unreadable images skipped: {', '.join(skipped[:5])}{more}"] \
        if skipped else []
