from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from kt_exp.benchmarks.classification.diagnosis import UNLIKELY_BELOW, Diagnosis, diagnose
from kt_exp.concepts import Concept
from kt_exp.models.protocol import DualEncoder


class BagOfWords:
    """A text encoder that adds up what each word means: red, ball, ring, and what is new."""

    max_text_tokens = 9
    words = {  # noqa: RUF012
        "red": (1, 0, 0, 0), "ball": (0, 1, 0, 0), "ring": (0, 0, 1, 0), "zorb": (0, 0, 0, 1),
        "glim": (0, 1, 1, 1), "wheel": (0, 1, 1, 0), "brick": (1, 0, 0, 0), "void": (0, 0, 0, 0),
    }

    def encode_text(self, captions: Sequence[str], normalize: bool = True) -> Tensor:
        summed = [torch.tensor([self.words.get(word, (0, 0, 0, 0)) for word in self.split(caption)])
                  .sum(0) for caption in captions]
        return torch.nn.functional.normalize(torch.stack(summed).float(), dim=-1)

    def count_tokens(self, caption: str) -> int:
        return len(self.split(caption)) + 2

    @staticmethod
    def split(caption: str) -> list[str]:
        return caption.lower().replace(".", "").split()


TEMPLATES = ["a photo of a {}.", "a red {}."]


def several(concepts: Sequence[Concept], known: Sequence[str],
            captions: str | None = "named") -> list[Diagnosis]:
    model = cast(DualEncoder, BagOfWords())
    classes = [model.encode_text([template.replace("{}", name) for template in TEMPLATES])
               for name in known]
    means = normalize(torch.stack([embedded.mean(dim=0) for embedded in classes]), dim=-1)
    return diagnose(model, concepts, TEMPLATES, known, means, captions)


def one(name: str, description: str, known: Sequence[str] = ("brick", "wheel")) -> Diagnosis:
    return several([Concept(name, description)], known)[0]


def test_tokens_are_those_of_the_named_caption() -> None:
    diagnosis = one("glim", "a ring")
    assert (diagnosis.tokens, diagnosis.token_limit) == (7, 9)


def test_the_cosine_is_between_name_and_named_caption() -> None:
    plain = torch.tensor([0.0, 1, 1, 1])
    name = normalize(plain, dim=0) + normalize(plain + torch.tensor([1.0, 0, 0, 0]), dim=0)
    caption = torch.tensor([0.0, 1, 2, 1])
    expected = torch.cosine_similarity(name, caption, dim=0)
    assert one("glim", "a ring").cosine == pytest.approx(float(expected), abs=1e-5)


def test_nearest_names_are_those_of_the_description_best_first() -> None:
    nearest = one("zorb", "a ball", ("brick", "glim", "wheel", "ball")).nearest
    assert [name for name, _ in nearest] == ["ball", "wheel", "glim"]
    assert nearest[0][1] > nearest[1][1] > nearest[2][1]


def test_a_known_class_that_is_nearer_to_the_caption_is_not_warned_about() -> None:
    """It was, and hardly took any of the images."""
    assert one("zorb", "a ball in a ring").warning is None


def test_a_name_that_says_nothing_about_the_caption_is_unlikely_to_transfer() -> None:
    diagnosis = one("void", "a ball in a ring", ("brick",))
    assert diagnosis.cosine < UNLIKELY_BELOW
    assert diagnosis.warning is not None
    assert diagnosis.warning.startswith("transfer is unlikely")


@pytest.mark.parametrize("captions", ["mixed", "templates", "description", None])
def test_other_captions_than_the_named_one_are_not_warned_about(captions: str | None) -> None:
    concept = Concept("void", "a ball in a ring")
    [silent], [warned] = (several([concept], ("brick", "wheel"), given)
                          for given in (captions, "named"))
    assert warned.warning is not None
    assert silent.warning is None
    assert (silent.cosine, silent.nearest) == (warned.cosine, warned.nearest)


def test_each_concept_gets_its_own_diagnosis_in_order() -> None:
    concepts = [Concept("zorb", "a ball in a ring"), Concept("glim", "a ring")]
    together = several(concepts, ["brick", "wheel"])
    assert together == [one(concept.name, concept.description) for concept in concepts]
