"""`python -m kt_exp.describe`: have a language model describe concepts, without their names.

Exit codes: 0 done, 1 some names have no description, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import yaml

from kt_exp.atomic import write_atomically
from kt_exp.concepts import Concept, ConceptsSettings, load_concepts, name_key
from kt_exp.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, UserError
from kt_exp.progress import progress

EXIT_SOME_LEFT = 1
ENDINGS = (("", "s"), ("", "es"), ("y", "ies"), ("f", "ves"), ("fe", "ves"), ("man", "men"))
QUOTES = set("\"'“”‘’")

Answer = Callable[[str, int], str]  # (prompt, attempt) → answer


def describe(names: Sequence[str], answer: Answer, prompt: str, source: str, out: Path,
             retries: int) -> list[str]:
    """Write a concept set of `names` to `out`; return the names without a description.

    `out` is updated after each description; existing ones are kept. If an answer is empty or
    contains the name, the model is asked again, up to `retries` times.

    Raises:
        UserError: `out` cannot be written, or was made with another model or prompt.
    """
    described = {name_key(concept.name): concept for concept in _begun(out, source)}
    missing = [name for name in names if name_key(name) not in described]
    left = []
    with progress(f"Describing {len(missing)} concepts", len(missing)) as bar:
        for name in missing:
            if text := _without_name(name, answer, prompt.replace("{}", name), retries):
                described[name_key(name)] = Concept(name, text)
                _write(out, source, _in_order(names, described.values()))
            else:
                left.append(name)
            bar.advance()
    return left


def contains_name(text: str, name: str) -> bool:
    """Return whether `text` contains `name`, in any case, singular or plural, split or joined.

    "Moon-gates" contains "moongate"; "pretties" does not contain "tie".
    """
    words = re.findall(r"[^\W_]+", text.casefold())
    key = name_key(name)
    forms = {key, *(f"{key.removesuffix(one)}{many}" for one, many in ENDINGS if key.endswith(one)),
             *(f"{key.removesuffix(many)}{one}" for one, many in ENDINGS if key.endswith(many))}
    most = len(re.findall(r"[^\W_]+", name)) + 2
    return any("".join(words[start:start + length]) in forms
               for start in range(len(words)) for length in range(1, most + 1))


def read_names(path: Path) -> list[str]:
    """Return the names in a text file, one per line; empty lines and lines with # are ignored.

    Raises:
        UserError: the file cannot be read, has no names, or has a name twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError("--names", f"cannot read '{path}': {reason}",
                        "give a text file with one name a line") from error
    names = [" ".join(line.split()) for line in lines if line.strip() and line.strip()[0] != "#"]
    if not names:
        raise UserError(str(path), "holds no names", "write one a line")
    for first, second in pairwise(sorted(names, key=name_key)):
        if name_key(first) == name_key(second):
            raise UserError(str(path), f"two concepts of one name: '{first}' and '{second}'",
                            "leave one out")
    return names


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    try:
        code = _main(arguments)
    except UserError as error:
        print(f"kt_exp.describe: error: {error}", file=sys.stderr)
        code = EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where it stopped", file=sys.stderr)
        code = EXIT_INTERRUPTED
    sys.exit(code)


def _main(arguments: Sequence[str] | None) -> int:
    options = _options(arguments)
    names = read_names(options.names)
    model = options.endpoint_model if options.endpoint else options.model
    source = f"{model}, prompt of {options.prompt_source}: {options.prompt}"
    _begun(options.out, source)
    left = describe(names, _answer(options), options.prompt, source, options.out, options.retries)
    print(f"{options.out}: {len(names) - len(left)} of {len(names)} concepts")
    if not left:
        return 0
    print(f"kt_exp.describe: error: no description without the name in {options.retries + 1} "
          f"attempts: {', '.join(left)}; run it again, or write these by hand", file=sys.stderr)
    return EXIT_SOME_LEFT


def _answer(options: argparse.Namespace) -> Answer:
    # Imported here: a local model needs torch and transformers.
    from kt_exp.concepts.instruct import Draw, ask_endpoint, ask_local

    draw = Draw(options.temperature, options.top_p, options.max_tokens, options.seed)
    if options.endpoint:
        return ask_endpoint(options.endpoint, options.endpoint_model, draw)
    return ask_local(options.model, draw)


def _begun(out: Path, source: str) -> list[Concept]:
    """Return the concepts that an earlier call wrote.

    Raises:
        UserError: the file is no concept set, or was made with another model or prompt.
    """
    if out.suffix not in (".yaml", ".yml"):
        raise UserError("--out", f"'{out}' is no YAML file", "end it in .yaml")
    if not out.parent.is_dir():
        raise UserError("--out", f"no such folder: '{out.parent}'", "make it first")
    if not out.exists():
        return []
    concepts = load_concepts(ConceptsSettings(name="", source="", path=str(out), items=[], only=[],
                                              exchange="none", on_long_caption="error"))
    content = yaml.safe_load(out.read_text(encoding="utf-8-sig"))
    if not isinstance(content, dict) or content.get("source") != source:
        raise UserError("--out", f"'{out}' was made by another model or prompt",
                        "give another file, or the same model and prompt to go on")
    return concepts


def _without_name(name: str, answer: Answer, prompt: str, retries: int) -> str:
    for attempt in range(retries + 1):
        text = " ".join(answer(prompt, attempt).split())
        if text[:1] in QUOTES and text[-1:] in QUOTES:
            text = text.strip("".join(QUOTES))
        if text and not contains_name(text, name):
            return text
    return ""


def _in_order(names: Sequence[str], concepts: Iterable[Concept]) -> list[Concept]:
    """Return the concepts in the order of `names`; those not among them come last."""
    place = {name_key(name): number for number, name in enumerate(names)}
    return sorted(concepts, key=lambda concept: place.get(name_key(concept.name), len(place)))


def _write(out: Path, source: str, concepts: Iterable[Concept]) -> None:
    items = [{"name": concept.name, "description": concept.description,
              **({"plural": True} if concept.plural else {}),
              **({"images_of": concept.images_of} if concept.images_of else {})}
             for concept in concepts]
    content = {"name": out.stem, "source": source, "items": items}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10**6)
    try:
        write_atomically(out, text)
    except OSError as error:
        raise UserError("--out", f"cannot write '{out}': {error.strerror}") from error


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError("command line", message, f"python -m {self.prog} --help")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    text = resources.files("kt_exp.concepts").joinpath("describe.yaml").read_text(encoding="utf-8")
    given: dict[str, Any] = yaml.safe_load(text)
    parser = _Parser(prog="kt_exp.describe", description=__doc__.splitlines()[0].partition(": ")[2])
    parser.add_argument("--names", type=Path, required=True, metavar="FILE",
                        help="text file with one name a line")
    parser.add_argument("--out", type=Path, required=True, metavar="SET.yaml",
                        help="concept set to write, or to go on with")
    parser.add_argument("--model", default=given["model"], metavar="ID_OR_PATH",
                        help="instruct model of the transformers library (%(default)s)")
    parser.add_argument("--endpoint", metavar="URL", help="in its place, an OpenAI-compatible one "
                        "(http://localhost:8000/v1); its key is read from OPENAI_API_KEY")
    parser.add_argument("--endpoint-model", metavar="NAME", help="the model's name there")
    parser.add_argument("--prompt", default=given["prompt"], help="{} marks the name")
    for name, low, text in (
            ("retries", 0, "more attempts where an answer holds the name"),
            ("temperature", 1e-6, "of the draw of words"), ("top_p", 1e-6, "share drawn from"),
            ("max_tokens", 1, "longest answer"), ("seed", 0, "of a local model's draw")):
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(given[name]),
                            default=given[name], help=f"{text} (%(default)s)")
        parser.set_defaults(**{f"least_{name}": low})
    options = parser.parse_args(arguments)
    _check(options)
    options.prompt_source = given["source"] if options.prompt == given["prompt"] else "one's own"
    return options


def _check(options: argparse.Namespace) -> None:
    for key, low in vars(options).items():
        name = key.removeprefix("least_")
        if name != key and getattr(options, name) < low:
            raise UserError(f"--{name.replace('_', '-')}", f"{getattr(options, name)} is too small",
                            f"give at least {low:g}")
    if bool(options.endpoint) != bool(options.endpoint_model):
        raise UserError("--endpoint", "needs --endpoint-model, and the other way round",
                        "give both or none")
    if "{}" not in options.prompt:
        raise UserError("--prompt", "has no {}", "mark the name's place by {}")


if __name__ == "__main__":
    main()
