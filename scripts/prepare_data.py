"""Lay out a data set as kt_exp reads it, from its official download.

    python scripts/prepare_data.py NAME --source DIR --out DIR

docs/datasets.md describes the three layouts (class folders, captioned images, image–mask pairs) and
each data set. Nothing in --source is changed; --out is written whole or not at all.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prepare import (
    brats,
    chexpert,
    imagenet,
    jsrt,
    karpathy,
    nips2017,
    rare_concepts,
    siim,
    udiat,
    unitochest,
)
from prepare.job import SOURCE, Job

from kt_exp.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, UserError
from kt_exp.progress import ConsoleHandler


@dataclass(frozen=True)
class Recipe:
    """What is known of a data set.

    Attributes:
        summary: one line on it.
        prepare: lays it out.
        keys: the overrides of kt-exp that use it, with {out} for its folder, and capitals for
            that of another data set.
        options: adds its own options to the parser.
    """

    summary: str
    prepare: Callable[[Job], None]
    keys: str
    options: Callable[[argparse.ArgumentParser], None] | None = None


def _captioned(name: str) -> str:
    table = {"flickr30k": "dataset_flickr30k.json", "mscoco": "dataset_coco.json"}[name]
    return (f"concepts=mscoco benchmark={name} benchmark.captions={{out}}/{table} "
            "benchmark.image_root={out}/images finetune.scope=joint")


def _segmented(name: str, concept: str) -> str:
    return f"concepts=segmentation 'concepts.only=[{concept}]' benchmark={name} " \
        "benchmark.root={out}"


RECIPES = {
    "rare": Recipe("photos of the paper's rare concepts → class folders",
                           rare_concepts.prepare, "concepts=rare benchmark=rare_imagenet "
                   "benchmark.target_root={out} benchmark.imagenet_root=IMAGENET"),
    "imagenet1k": Recipe("ILSVRC2012 validation images and their labels → val/<wnid>/",
                         imagenet.prepare_1k, "concepts=rare benchmark=rare_imagenet "
                         "benchmark.imagenet_root={out} benchmark.target_root=RARE_CONCEPTS"),
    "imagenet100": Recipe("Kaggle's 100 classes of ImageNet → class folders, for ViLT",
                          imagenet.prepare_100, "concepts=rare_short benchmark=folders "
                          "benchmark.known_root={out}/val benchmark.target_root=RARE_CONCEPTS"),
    "chexpert": Recipe("chexpert_5x200.csv and CheXpert's images → class folders",
                            chexpert.prepare, "concepts=chexpert benchmark=chexpert "
                            "benchmark.known_root={out} finetune.scope=joint"),
    "jsrt": Recipe("154 chest radiographs (.IMG or PNG), CLNDAT_EN.txt → class folders",
                   jsrt.prepare, "concepts=jsrt benchmark=jsrt benchmark.target_root={out} "
                   "benchmark.known_root=CHEXPERT"),
    "nips2017": Recipe("1000 photos with ImageNet labels, images.csv → labels CSV",
                       nips2017.prepare, "experiment=photos benchmark.labels_csv={out}/labels.csv"),
    "flickr30k": Recipe("dataset_flickr30k.json and its images → captioned images",
                        karpathy.prepare_flickr30k, _captioned("flickr30k"), karpathy.options),
    "mscoco": Recipe("dataset_coco.json and its images → captioned images",
                     karpathy.prepare_mscoco, _captioned("mscoco"), karpathy.options),
    "unitochest": Recipe("chest CT (DICOM), nodule masks (PNG) → image–mask pairs",
                         unitochest.prepare, _segmented("unitochest", "lung nodules"),
                         unitochest.options),
    "udiat": Recipe("breast ultrasound, original/ and GT/ → image–mask pairs", udiat.prepare,
                    _segmented("udiat", "breast tumor")),
    "siim_pneumothorax": Recipe("chest X-rays (DICOM), masks (RLE) → image–mask pairs",
                                siim.prepare,
                                _segmented("siim_pneumothorax", "pneumothorax"), siim.options),
    "brats": Recipe("brain MRI volumes (NIfTI) → image–mask pairs of slices with tumour",
                    brats.prepare, _segmented("brats", "brain tumor"), brats.options),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare one data set; return 0, 2 for bad input, or 130 if interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[ConsoleHandler()])
    options = _parser().parse_args(arguments)
    out = options.out.expanduser()
    try:
        notes = run(options.name, options.source.expanduser(), out, options)
    except UserError as error:
        print(f"prepare_data: error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:
        print(f"prepare_data: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    keys = RECIPES[options.name].keys.replace("{out}", shlex.quote(str(out)))
    print("\n".join([*notes, f"written to {out}", f"keys to set: {keys}"]))
    return 0


def run(name: str, source: Path, out: Path, options: argparse.Namespace) -> list[str]:
    """Write the data set to `out`; return what there is to say of it.

    Raises:
        UserError: a source that is not there or in another layout, files that are absent or
            unreadable, an `out` that holds something.
    """
    if not source.is_dir():
        raise UserError(SOURCE, f"no such folder: {source}", "give the folder of the download")
    with _written_whole(out) as folder:
        job = Job(source, folder, options.partial, options)
        RECIPES[name].prepare(job)
        if not any(folder.iterdir()):
            raise UserError(SOURCE, f"nothing in {source} fits", "; ".join(job.notes))
    return job.notes


@contextmanager
def _written_whole(out: Path) -> Iterator[Path]:
    """Yield a folder beside `out` that takes its name at the end, and is removed on failure."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("--out", f"{out} is not an empty folder",
                        "give another, or remove what is there")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield folder
        folder.chmod(0o777 & ~_umask())
        folder.replace(out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _parser() -> argparse.ArgumentParser:
    known = "\n".join(f"  {name:<18} {recipe.summary}" for name, recipe in RECIPES.items())
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=f"data sets:\n{known}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME",
                                  help="one of the data sets below; NAME --help has its options")
    for name, recipe in RECIPES.items():
        one = names.add_parser(name, description=recipe.summary)
        one.add_argument(SOURCE, type=Path, required=True, help="the folder of the download")
        one.add_argument("--out", type=Path, required=True, help="a new or empty folder")
        one.add_argument("--partial", action="store_true",
                         help="leave out files that are listed but not there, and say which")
        if recipe.options:
            recipe.options(one)
    return parser


if __name__ == "__main__":
    # So that what is half written is removed then too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
