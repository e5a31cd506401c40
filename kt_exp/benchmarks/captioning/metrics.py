"""BLEU@4, METEOR, CIDEr and SPICE of generated captions, as in the COCO caption evaluation.

`pycocoevalcap` (extra `captioning`) computes all four on captions split by the Penn Treebank
tokenizer. The tokenizer, METEOR and SPICE are Java programs. SPICE has the highest requirements:
where it cannot run, the other three are still computed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from urllib.request import Request, urlopen

from kt_exp.errors import UserError
from kt_exp.progress import Progress

SPICE_JAVA = range(8, 16)
SPICE_BYTES = 8 * 2**30
SPICE_JAR = "lib/stanford-corenlp-3.6.0.jar"
SPICE_SOURCE = "http://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip"
_PROBE_SECONDS = 5
_WHERE = "benchmark"

Texts = dict[int, list[str]]


@dataclass(frozen=True)
class CaptionScores:
    """Scores of captions over all images: BLEU@4, METEOR and SPICE in [0, 1], CIDEr at least 0.

    Attributes:
        spice: None if not computed.
        spice_failure: why SPICE failed, if it was run and failed.
        meteor_each: METEOR of each image.
    """

    bleu4: float
    meteor: float
    cider: float
    spice: float | None
    spice_failure: str | None
    meteor_each: list[float]


@dataclass(frozen=True)
class CaptionMetrics:
    """The metrics that can be computed on this machine.

    Attributes:
        with_spice: whether SPICE is requested and its requirements are met.
        why_no_spice: the unmet requirement, if SPICE is requested.
    """

    with_spice: bool
    why_no_spice: str | None

    def score(self, generated: Sequence[str], references: Sequence[Sequence[str]],
              progress: Progress) -> CaptionScores:
        """Return the scores of one generated caption per image against its references.

        Raises:
            UserError: a Java program failed; SPICE's failure is reported in the scores instead.
        """
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider

        with progress("Scoring captions", 4 + self.with_spice) as bar:
            truth = _tokenized(references)
            candidates = _tokenized([[caption] for caption in generated])
            bar.advance()
            bleu, _ = Bleu(4).compute_score(truth, candidates, verbose=0)
            bar.advance()
            cider, _ = Cider().compute_score(truth, candidates)
            bar.advance()
            meteor, each = _meteor(truth, candidates)
            bar.advance()
            spice, failure = _spice(truth, candidates) if self.with_spice else (None, None)
            bar.advance(int(self.with_spice))
        return CaptionScores(float(bleu[3]), meteor, float(cider), spice, failure, each)


def find_metrics(spice: str) -> CaptionMetrics:
    """Return the metrics that this machine can compute; `spice` is `auto` or `off`.

    Raises:
        UserError: `pycocoevalcap` or Java is missing.
    """
    if find_spec("pycocoevalcap") is None:
        raise UserError(_WHERE, "captioning needs pycocoevalcap, which is not installed",
                        "pip install 'kt_exp[captioning]'")
    java = java_version()
    if java is None:
        raise UserError(_WHERE, "no Java on this machine: METEOR and the tokenizer are Java "
                        "programs", "install one (apt-get install default-jre-headless)")
    if spice == "off":
        return CaptionMetrics(False, None)
    online = partial(_answers, SPICE_SOURCE)
    why = why_no_spice(java, _folder("spice"), _memory(), online)
    return CaptionMetrics(why is None, why)


def java_version() -> int | None:
    """Return the major version of the `java` on the path (8 for 1.8); None without Java."""
    if shutil.which("java") is None:
        return None
    done = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(version[1]) if version and done.returncode == 0 else None


def why_no_spice(java: int, folder: Path, memory: int, online: Callable[[], bool]) -> str | None:
    """Return why SPICE cannot run; None if its requirements are met.

    Args:
        java: major version.
        folder: that of `pycocoevalcap.spice`, into which SPICE writes.
        memory: of the machine, in bytes.
        online: tells whether CoreNLP can be downloaded; called only if it is missing.
    """
    if java not in SPICE_JAVA:
        return f"it runs on Java {SPICE_JAVA[0]} to {SPICE_JAVA[-1]}, this is Java {java}"
    if memory < SPICE_BYTES:
        return f"it needs {SPICE_BYTES / 2**30:.0f} GiB of memory, this machine has " \
            f"{memory / 2**30:.1f}"
    if not os.access(folder, os.W_OK):
        return f"it has to write into {folder}, which is read-only"
    if not (folder / SPICE_JAR).exists() and not online():
        return f"CoreNLP is not in {folder / SPICE_JAR} and {SPICE_SOURCE} cannot be reached"
    return None


def _tokenized(captions: Sequence[Sequence[str]]) -> Texts:
    """Return lower-cased words without punctuation, as `pycocoevalcap`'s PTBTokenizer does.

    Runs the same program through pipes: PTBTokenizer writes into its package's folder.
    """
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS, STANFORD_CORENLP_3_4_1_JAR

    # Any Unicode line break inside a caption would shift all captions after it.
    lines = [" ".join(caption.split()) for of_image in captions for caption in of_image]
    command = ["java", "-Dfile.encoding=UTF-8", "-cp", STANFORD_CORENLP_3_4_1_JAR,
               "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    try:
        done = subprocess.run(command, cwd=_folder("tokenizer"), input="\n".join(lines).encode(),
                              capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise _failed("the tokenizer", error) from error
    tokenized = iter(done.stdout.decode().split("\n"))
    return {
        index: [" ".join(word for word in next(tokenized).split() if word not in PUNCTUATIONS)
                for _ in of_image]
        for index, of_image in enumerate(captions)
    }


def _meteor(truth: Texts, candidates: Texts) -> tuple[float, list[float]]:
    from pycocoevalcap.meteor.meteor import Meteor

    try:
        score, each = Meteor().compute_score(truth, candidates)
    except (OSError, ValueError) as error:
        raise _failed("METEOR", error) from error
    return float(score), [float(value) for value in each]


def _spice(truth: Texts, candidates: Texts) -> tuple[float | None, str | None]:
    from pycocoevalcap.spice.spice import Spice

    try:
        score, _ = Spice().compute_score(truth, candidates)
    # A download, a Java program or its output may fail in many ways; only this metric is lost.
    except Exception as error:
        return None, f"it failed ({type(error).__name__}: {error})"
    return float(score), None


def _failed(what: str, error: Exception) -> UserError:
    stderr = getattr(error, "stderr", None) or b""
    reason = (stderr.decode(errors="replace").strip() or str(error)).splitlines()[-1]
    return UserError(_WHERE, f"{what} failed ({reason})",
                     "it needs a working Java and 2 GiB of memory")


def _folder(part: str) -> Path:
    spec = find_spec(f"pycocoevalcap.{part}")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _answers(url: str) -> bool:
    try:
        with urlopen(Request(url, method="HEAD"), timeout=_PROBE_SECONDS):
            return True
    except OSError:
        return False
