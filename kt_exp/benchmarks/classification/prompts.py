"""Prompts of a class: filled templates, or a concept's name or description."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kt_exp.benchmarks.protocol import ClassificationBenchmark, Prompted
from kt_exp.concepts import Concept
from kt_exp.concepts.captions import fill
from kt_exp.concepts.parts import description_parts, part_prompts
from kt_exp.results.outcome import Phase


def known_prompts(benchmark: ClassificationBenchmark) -> list[list[str]]:
    """Return each known class's prompts, in label order: its name in every template."""
    return [filled(benchmark, name) for name in benchmark.known_names()]


def target_prompts(
    benchmark: Prompted, concept: Concept, phase: Phase
) -> list[str]:
    """Return the prompts of a new concept in `phase`.

    - `baseline`, `transferred`, `calibrated`: the name in every template, as for known classes.
    - `name_prompt`: the name alone.
    - `description_prompt`: the description alone (paper Tab. 2).
    - `name_and_description`: the name in every template, and the description as many times, so
      that both have the same weight in the mean.
    - `parts_prompt`: one prompt per part of the description (Menon & Vondrick, ICLR 2023).
    """
    if phase is Phase.name_prompt:
        return [concept.name]
    if phase is Phase.description_prompt:
        return [concept.description]
    if phase is Phase.parts_prompt:
        return part_prompts(description_parts(concept.description, concept.parts))
    named = filled(benchmark, concept.name, concept.plural)
    if phase is Phase.name_and_description:
        return [*named, *[concept.description] * len(named)]
    return named


def template_problems(templates: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the problems of prompt templates as `(key, problem, remedy)`."""
    if not templates:
        yield "templates", "no prompt templates", "give at least one, as ['a photo of a {}.']"
    for template in templates:
        if template.count("{}") != 1:
            yield ("templates", f"'{template}' has no single place for the name",
                   "write {} once where the class name goes")


def filled(benchmark: Prompted, name: str, plural: bool = False) -> list[str]:
    """Return the prompts of a name: every template, filled."""
    if benchmark.fix_articles:
        return [fill(template, name, plural) for template in benchmark.templates]
    return [template.replace("{}", name) for template in benchmark.templates]
