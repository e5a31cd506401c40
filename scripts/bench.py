"""Measure kt_exp against plain code and against what the device could do; print one table.

    python scripts/bench.py
    python scripts/bench.py --model ViT-B-32 --what inversion --images 4 --steps 2
    python scripts/bench.py precision=bf16 inversion=paper --device cuda --model ViT-B-32 \\
        --images 250 --what inversion memory

The ways that are compared take turns in one process; a ratio is the median over the turns. What
comes before the options are config overrides, as for kt-exp; they are not those of the rows `start`
and `sweep`, which are the main job's. `--what quality` takes hours for many steps.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table
from speed.common import Bench
from speed.measure import Clock, Row
from speed.models import OVERRIDES, load, overrides
from speed.quality import Curve, picture, summary
from speed.rows import ROWS

from kt_exp.models.factory import pick_device
from kt_exp.results.record import collect_versions
from kt_exp.runs.allocator import keep_freed_memory
from kt_exp.schema import Config, conf_folder, parse, register_schema


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, print it, and write it as JSON."""
    asked = _parse(arguments)
    keep_freed_memory()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    device = pick_device(asked.device)
    config = _compose([f"device={device}", *overrides(asked.model, asked.overrides)])
    about = {"device": _device_name(device), "threads": torch.get_num_threads(),
             "clock": asked.clock, "model": asked.model, "precision": config.precision,
             "repeats": asked.repeats, "images": asked.images, "steps": asked.steps,
             "overrides": asked.overrides, "versions": collect_versions()}
    bench = Bench(config, load(asked.model, config, device, config.precision),
                  Clock(device, asked.clock == "cpu"), asked.repeats, asked.images, asked.steps)
    rows = []
    for what in asked.what:
        for row in ROWS[what](bench) if what in ROWS else _curve(bench, asked):
            rows.append(row)
            print(f"{row.what}: {_number(row.ours)} {row.unit}", flush=True)
    asked.out.write_text(json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=2),
                         encoding="utf-8")
    _print(rows, f"{asked.model}, {about['device']}, {about['threads']} threads, torch "
                 f"{torch.__version__}, {config.precision}, {asked.clock} clock")


def _curve(bench: Bench, asked: argparse.Namespace) -> Iterator[Row]:
    rehearsed = _compose(overrides(asked.model)).inversion
    curve = Curve(bench.config, rehearsed, bench.model, bench.clock, asked.name, asked.curve,
                  range(asked.seeds), asked.points)
    yield from summary(list(curve.points()))
    if asked.plot:
        kept = asked.points.read_text(encoding="utf-8").splitlines()
        picture([json.loads(line) for line in kept]).save(asked.plot)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--model", choices=list(OVERRIDES), default="pictoclip",
                        help="ViT-B-32 and ViT-L-14 have random weights")
    parser.add_argument("--what", nargs="+", choices=[*ROWS, "quality"], default=list(ROWS),
                        help="default: all but quality, which is long")
    parser.add_argument("--images", type=_count, default=10, help="inverted at once")
    parser.add_argument("--steps", type=_count, default=10, help="of inversion")
    parser.add_argument("--repeats", type=_count, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall",
                        help="cpu: processor seconds, for one thread on a busy machine")
    quality = parser.add_argument_group("quality: how many steps inversion needs")
    quality.add_argument("--curve", type=int, nargs="+", default=[5, 10, 20, 40, 100, 400, 5000])
    quality.add_argument("--seeds", type=_count, default=3)
    quality.add_argument("--name", default="as configured", help="of the config, in the points")
    quality.add_argument("--points", type=Path, default=Path("quality.jsonl"),
                         help="kept here as they come; a run goes on from them")
    quality.add_argument("--plot", type=Path, metavar="FILE",
                         help="a picture (.png, .svg or .pdf) of all that is kept there")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    asked, overrides = parser.parse_known_args(arguments)
    if unknown := [word for word in overrides if word.startswith("-")]:
        parser.error(f"unknown: {' '.join(unknown)}")
    asked.overrides = overrides
    if asked.clock == "cpu" and asked.threads != 1:
        parser.error("--clock cpu tells something with --threads 1 alone")
    return asked


def _count(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"'{word}' is no whole number from 1 on")
    return int(word)


def _compose(overrides: list[str]) -> Config:
    register_schema()
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        return parse(compose("config", overrides))


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" \
        else f"{platform.machine()} CPU"


def _print(rows: list[Row], title: str) -> None:
    table = Table(title=title)
    table.add_column("what")
    for heading in ("ours", "plain", "times quicker", "floor", "share of it"):
        table.add_column(heading, justify="right")
    table.add_column("unit")
    table.add_column("against")
    for row in rows:
        table.add_row(row.what, *(_number(value) for value in (
            row.ours, row.plain, row.ratio, row.floor, row.share)), row.unit, row.against)
    Console(width=160).print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


if __name__ == "__main__":
    main()
