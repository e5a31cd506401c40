"""Measure a sweep over five learning rates against a single run, and the same sweep again.

    python scripts/benchmark_sweep.py
    python scripts/benchmark_sweep.py --repeats 1 concepts.only=[gyroscope]

Each is a process of its own, as users start them; single run and sweep begin with an empty store.
They take turns, and the fastest of each counts: machines are noisy. Where others compute on the
same machine the seconds on the CPU tell more than those of the clock.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

RECIPE = ["inversion=fast", "finetune=pictograms"]
RATES = ["-m", *RECIPE, "finetune.lr=1e-4,3e-4,1e-3,3e-3,1e-2"]
RUNS = {
    "single run": RECIPE,
    "five rates": RATES,
    "the same again": RATES,
    "again, none skipped": [*RATES, "on_existing=rerun"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="config overrides, as for kt-exp")
    arguments = parser.parse_args()
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in RUNS}
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            for name, words in RUNS.items():
                home = f"{folder}/{'one' if name == 'single run' else 'five'}"
                spent[name].append(run([
                    *words, *arguments.overrides, f"store.root={home}/store",
                    f"hydra.run.dir={home}/run", f"hydra.sweep.dir={home}/sweep"]))
    wall, cpu = ({name: min(times[i] for times in spent[name]) for name in RUNS} for i in (0, 1))
    for name in RUNS:
        print(f"{name}: {wall[name]:.1f} s ({wall[name] / wall['single run']:.2f} × single run), "
              f"on the CPU {cpu[name]:.1f} s ({cpu[name] / cpu['single run']:.2f} ×)")


def run(words: list[str]) -> tuple[float, float]:
    """Run kt-exp; return its seconds by the clock, and those that its threads computed."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-m", "kt_exp.run", *words], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - start, os.times()
    return seconds, (after.children_user + after.children_system
                     - before.children_user - before.children_system)


if __name__ == "__main__":
    main()
