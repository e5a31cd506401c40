"""RareConcepts: a folder of photos per concept, collected by the paper's authors (C.2)."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from kt_exp.concepts import name_key
from kt_exp.data.image_files import IMAGE_SUFFIXES
from kt_exp.progress import progress
from prepare.job import SOURCE, Job, visible

PER_CONCEPT = 10
CONCEPTS = ("moongate", "tonometer", "gyroscope", "bengal_stripe", "floral", "madras", "chantilly")
# The paper writes both "Bengal Strip" (C.2) and "Bengal Stripe" (Tab. 2).
SPELLINGS = {name_key(name): name for name in CONCEPTS} | {"bengalstrip": "bengal_stripe"}


def prepare(job: Job) -> None:
    """Write `<concept>/<photo>` for each folder that holds photos, at whatever depth it lies."""
    folders: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(job.source.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and visible(path, job.source):
            name = path.parent.name
            folders[SPELLINGS.get(name_key(name), name)].append(path)
    folders.pop(job.source.name, None)
    if not folders:
        raise job.wrong("no sub-folders of photos", "put the photos of each concept into a folder "
                        "named after it, as moongate/1.jpg")
    with progress(f"Copying {len(folders)} concepts", len(folders)) as bar:
        for name, files in folders.items():
            for file in files:
                job.place(file, f"{name}/{file.name}")
            bar.advance()
    for name in CONCEPTS:
        job.count(len(folders.get(name, [])), PER_CONCEPT, f"photos of {name}")
    if others := sorted(folders.keys() - set(CONCEPTS)):
        job.notes.append(f"beyond the paper's, taken along from {SOURCE}: {', '.join(others)}")
