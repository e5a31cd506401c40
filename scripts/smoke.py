"""Run every model on every task, all three stages, on small checkpoints with random weights.

    python scripts/smoke.py
    python scripts/smoke.py --models vilt coca --tasks retrieval captioning --keep runs

Each pair goes through the command line of kt_exp, in this process. What a model cannot do has to be
refused in one line before inversion. Exit code 1 if anything is otherwise than expected. The
figures mean nothing; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import tiny_checkpoints as tiny
from hydra.core.global_hydra import GlobalHydra
from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from kt_exp import cli
from kt_exp.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED
from kt_exp.results.record import read_record

TESTS = Path(__file__).parents[1] / "tests"
COCO, PAIRS = TESTS / "data" / "coco", TESTS / "benchmarks" / "segmentation" / "pairs"
CONCEPTS = ("concepts.items=["
            "{name: lungs, description: two dark fields side by side, plural: true},"
            "{name: brain tumor, description: a bright spot in a grey disc}]")
SMALL = ["concepts=inline", CONCEPTS, "inversion=paper", "inversion.steps=2", "inversion.images=2",
         "finetune=paper", "finetune.scope=joint", "finetune.save_models=false", "device=cpu"]
CAPTIONED = [f"benchmark.captions={COCO / 'dataset_coco.json'}", f"benchmark.image_root={COCO}",
             "benchmark.workers=0"]

# By task: the words in which it has to be refused, and the models that cannot do it.
CAN_NOT = {
    "closed_set": ("has no embeddings", {"vilt", "vilt_flickr"}),
    "captioning": ("choose a captioner", {"pictoclip", "open_clip", "vilt", "vilt_flickr",
                                          "medclip", "medclip_resnet", "biomedclip",
                                          "effnet_minilm"}),
    "segmentation": ("choose a dual encoder with a ViT", {"vilt", "vilt_flickr", "medclip",
                                                          "medclip_resnet", "effnet_minilm"}),
}
# What this machine may lack, in the words of the line that says so.
LACKING = ("pip install 'kt_exp[", "no Java on this machine")
TABLE_WIDTH = 100


def _medclip(folder: Path, kind: str) -> list[str]:
    text, vision = tiny.write_medclip_configs(folder)
    settings = [f"model.weights={tiny.write_medclip(folder, kind)}", f"model.text={text}"]
    return [*settings, f"model.vision={vision}"] if kind == "swin" else settings


def _vilt(folder: Path, *heads: str) -> list[str]:
    tiny.write_vilt(folder, tiny.vilt_state(*heads))
    return [f"model.name={folder}", "inversion=vilt", "finetune=vilt"]


def _open_clip(folder: Path, name: str) -> list[str]:
    bert, _ = tiny.write_medclip_configs(folder / "configs")
    return [f"model.name=local-dir:{tiny.write_open_clip(folder, name, bert)}",
            "model.pretrained=null"]


# By option of the group `model`: write a checkpoint into a folder, return the keys that name it.
MODELS: dict[str, Callable[[Path], list[str]]] = {
    "pictoclip": lambda folder: [],
    "open_clip": lambda folder: _open_clip(folder, "vit"),
    "vilt": lambda folder: _vilt(folder, "itm_score", "mlm_score"),
    "vilt_flickr": lambda folder: _vilt(folder, "rank_output"),
    "medclip": lambda folder: [*_medclip(folder, "swin"), "finetune=medclip"],
    "medclip_resnet": lambda folder: [*_medclip(folder, "resnet"), "finetune=medclip"],
    "biomedclip": lambda folder: [*_open_clip(folder, "biomedclip"), "inversion=authors",
                                  "inversion.sizes=[64,128]", "inversion.upsize_at=[1]",
                                  "finetune=authors"],
    "coca": lambda folder: [*_open_clip(folder, "coca"), "finetune=coca"],
    "effnet_minilm": lambda folder: ["model.templates=['{}']"],
}


def _folders(folder: Path) -> list[str]:
    _write_classes(folder)
    return ["benchmark=folders", f"benchmark.known_root={folder / 'known'}",
            f"benchmark.target_root={folder / 'target'}", "finetune.save_models=true"]


def _closed_set(folder: Path) -> list[str]:
    """One concept is a class of the set, the other is beside it."""
    _write_classes(folder)
    (folder / "target" / "lungs").rename(folder / "known" / "lungs")
    return ["benchmark=chexpert", "benchmark.class_prompts={lungs: ['{left|right} lung']}",
            f"benchmark.known_root={folder / 'known'}",
            f"benchmark.target_root={folder / 'target'}", "benchmark.workers=0"]


def _segmentation(folder: Path) -> list[str]:
    return ["benchmark=segmentation", f"benchmark.root={PAIRS}",
            f"benchmark.sam={tiny.write_sam(folder)}", "benchmark.m2ib.layer=0",
            "benchmark.m2ib.steps=2", "benchmark.m2ib.draws=2"]


# By name: write what the task needs into a folder, return the keys.
TASKS: dict[str, Callable[[Path], list[str]]] = {
    "classification": _folders,
    "closed_set": _closed_set,
    "retrieval": lambda folder: ["benchmark=mscoco", *CAPTIONED],
    "captioning": lambda folder: ["benchmark=mscoco_captioning", *CAPTIONED,
                                  "benchmark.generation.max_tokens=8", "benchmark.spice=off"],
    "segmentation": _segmentation,
}


def _write_classes(folder: Path) -> None:
    photos = sorted((COCO / "val2014").glob("*.jpg"))
    classes = {"known/motorcycle": photos[:1], "known/kite": photos[1:2],
               "target/lungs": (PAIRS / "lungs" / "images").iterdir(),
               "target/brain_tumor": (PAIRS / "brain_tumor" / "images").iterdir()}
    for name, files in classes.items():
        (folder / name).mkdir(parents=True)
        for file in files:
            shutil.copy(file, folder / name)


@dataclass(frozen=True)
class Result:
    """How one pair ended; `line` says why where it is not "ok"."""

    model: str
    task: str
    verdict: str
    line: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.model} × {self.task}: {self.verdict}" + (self.line and f" ({self.line})")


def call(arguments: Sequence[str]) -> tuple[int, str]:
    """Run kt_exp as its command line would; return the exit code and what went to stderr."""
    GlobalHydra.instance().clear()
    said, argv = io.StringIO(), sys.argv
    sys.argv = ["kt-exp", *arguments]
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(said):
            cli.main()
    except SystemExit as ended:
        if ended.code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt from None
        return int(ended.code or 0), said.getvalue().strip()
    finally:
        sys.argv = argv
    raise AssertionError("the entrypoint always exits")


def judge(model: str, task: str, folder: Path, code: int, said: str) -> tuple[str, str]:
    """Return the verdict on a run and the line that explains it."""
    line = said.splitlines()[-1].removeprefix("kt-exp: error: ") if said else ""
    words, unable = CAN_NOT.get(task, ("", set()))
    if code == EXIT_BAD_INPUT and any(lack in line for lack in LACKING):
        return "left out", line
    if model in unable:
        clean = code == EXIT_BAD_INPUT and words in line and len(said.splitlines()) == 1
        early = clean and "inversion" not in read_record(folder).seconds
        return ("refused", line) if early else ("FAILED", line if code else "not refused")
    if code:
        return "FAILED", line or f"exit code {code}"
    problem = _incomplete(folder)
    return ("FAILED", " ".join(f"{problem} {said}".split())) if problem else ("ok", "")


def _incomplete(folder: Path) -> str:
    """Return what a run that ended well lacks of its results."""
    record = read_record(folder)
    if not {"baseline", "transferred"} <= {row.phase for row in record.metrics}:
        return "a phase has no result"
    if not all(row.value is None or math.isfinite(row.value)
               for row in record.metrics):
        return "a result is not finite"
    absent = [path for path in ("images", "report") if path not in record.files]
    absent += [path for path in record.files.values() if not (folder / path).exists()]
    return f"no {absent[0]}" if absent else ""


def smoke(models: Sequence[str], tasks: Sequence[str], root: Path,
          tell: Callable[[Result], None]) -> list[Result]:
    """Run all pairs under `root`; `tell` hears of each as it ends."""
    of_task = {task: TASKS[task](root / "data" / task) for task in tasks}
    results = []
    for model in models:
        of_model = MODELS[model](root / "checkpoints" / model)
        for task in tasks:
            folder, start = root / "runs" / f"{model}-{task}", time.perf_counter()
            # The store is one for all tasks of a model: what they share is computed once.
            code, said = call(_last_of_each([
                f"hydra.run.dir={folder}", f"store.root={root / 'store' / model}", *SMALL,
                f"model={model}", *of_model, *of_task[task]]))
            verdict, line = judge(model, task, folder, code, said)
            results.append(Result(model, task, verdict, line, time.perf_counter() - start))
            tell(results[-1])
        shutil.rmtree(root / "store" / model, ignore_errors=True)
    return results


def _last_of_each(settings: Sequence[str]) -> list[str]:
    """Return the last setting of each key: what a model or task says counts."""
    return list({setting.partition("=")[0]: setting for setting in settings}.values())


def table(results: Sequence[Result]) -> Table:
    """Return the verdicts and seconds, a row for each model and a column for each task."""
    drawn = Table("model", *dict.fromkeys(result.task for result in results))
    for model in dict.fromkeys(result.model for result in results):
        row = [result for result in results if result.model == model]
        drawn.add_row(model, *(f"{cell.verdict} {cell.seconds:.0f} s" for cell in row))
    return drawn


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--keep", type=Path, metavar="FOLDER",
                        help="a new folder to keep the folders of the runs in")
    options = parser.parse_args(arguments)
    if options.keep and options.keep.exists():
        parser.error(f"--keep: {options.keep} is there already")
    disable_progress_bar()  # of the checkpoints' writing
    console = Console(file=sys.stdout, highlight=False, markup=False)
    console.width = max(console.width, TABLE_WIDTH)
    with tempfile.TemporaryDirectory() as scratch:
        results = smoke(options.models, options.tasks, (options.keep or Path(scratch)).resolve(),
                        lambda result: console.print(str(result), soft_wrap=True))
    console.print(table(results), no_wrap=True)
    failed = sum(result.verdict == "FAILED" for result in results)
    total = sum(result.seconds for result in results)
    console.print(f"{len(results)} pairs, {failed} failed, {total:.0f} s "
                  f"({sum(os.times()[:4]):.0f} s of CPU time)")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
