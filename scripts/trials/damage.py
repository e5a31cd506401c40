"""Stores with a bit flipped in an entry, or an entry cut short."""

from __future__ import annotations

import random
from pathlib import Path
from shutil import copytree, rmtree

from trials.small_run import Tally, incomplete, outcome_of, run_small
from trials.undisturbed import Undisturbed


def damage_trials(count: int, good: Undisturbed, work: Path, chance: random.Random,
                  kind: str = "*") -> Tally:
    """Damage one entry of a store, `count` times; a run on it has to find the same as before.

    The entry is set aside and computed again, or the damage does not concern it. With `kind` it is
    one of that kind.
    """
    tally = Tally("flips and truncations")
    for number in range(count):
        own = work / f"damage-{number}"
        copytree(good.home / "store", own / "store")
        what = damage(chance.choice(sorted((own / "store").glob(f"{kind}/*.safetensors"))), chance)
        ended = run_small(own)
        found = bool(list((own / "store").glob("damaged/*")))
        tally.trials += 1
        tally.count("set aside" if found else "not read")
        problem = ended.problem({0}) or incomplete(own / "run")
        if not problem and outcome_of(own / "run") != good.outcome:
            problem = "another result than without the damage"
        if not problem and found and "Damaged entry in the store" not in ended.output:
            problem = "nothing was said of it"
        if problem:
            tally.problems.append(f"{what}: {problem}")
        rmtree(own)
    return tally


def damage(path: Path, chance: random.Random) -> str:
    """Flip a bit of a file or cut it short; return what was done."""
    content = bytearray(path.read_bytes())
    name = f"{path.parent.name}/{path.name}"
    # Entries begin with a header of JSON, which is far smaller than the tensors after it.
    end = chance.choice([len(content), min(len(content), 2000)])
    if chance.random() < 0.3:
        at = chance.randrange(end)
        path.write_bytes(content[:at])
        return f"{name} cut to {at} bytes"
    at, bit = chance.randrange(end), chance.randrange(8)
    content[at] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {at} of {name} flipped"
