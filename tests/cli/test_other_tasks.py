"""A model that is no dual encoder and a task that is no classification, both a user's own."""

import csv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CONCEPTS = [
    "concepts.items=[{name: zorb, description: round and red}, "
    "{name: glim, description: a blue box}]",
]
SMALL = ["inversion=vilt", "inversion.steps=3", "inversion.images=4", "finetune=vilt",
         "finetune.scope=joint", "finetune.lr=0.01"]


@pytest.fixture(autouse=True)
def plugins(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "plugins"))


@pytest.fixture
def own(kt_exp, home):
    """Calls kt-exp with the user's own model and benchmark, each from a config file of theirs."""
    for group, text in (("model", "_target_: small_world.Matcher\nseed: 0\n"),
                        ("benchmark", "_target_: small_world.Shades\nknown: []\n")):
        (home / "conf" / group).mkdir(parents=True)
        (home / "conf" / group / "own.yaml").write_text(text)
    search = "hydra.searchpath=[file://conf]"
    return lambda *more: kt_exp(search, "model=own", "benchmark=own", "concepts=inline", *CONCEPTS,
                                *SMALL, *more)


def test_three_stages_and_what_they_leave(own):
    ended = own()
    assert ended.code == 0, ended.stderr
    record = ended.record
    assert [(row.phase, row.concept, row.split) for row in record.metrics] == [
        ("baseline", "all concepts", "all"), ("transferred", "all concepts", "all")]
    assert record.metrics[0].value != record.metrics[1].value
    assert record.notes == ["red is the only shade"]
    assert record.curves["inversion"]["zorb"]["distance"] == "match"
    assert len(record.curves["finetune"]["all concepts"]["loss"]) == 2
    assert record.concepts[0].diagnosis.cosine is None
    assert set(record.files) == {"result", "images", "pictures", "models", "per_image", "report",
                                 "panels"}
    assert all((ended.folder / path).exists() for path in record.files.values())
    rows = list(csv.DictReader((ended.folder / "per_image.csv").open()))
    assert [(row["phase"], row["text"]) for row in rows] == [
        ("baseline", "zorb"), ("baseline", "glim"), ("transferred", "zorb"),
        ("transferred", "glim")]
    assert "METEOR" in ended.stdout
    assert "All shades of red" in (ended.folder / "report.html").read_text()


@pytest.mark.parametrize("settings", [
    ["finetune=vilt_mlm", "finetune.images=noise", "finetune.scope=each"],
    ["finetune=vilt_mlm"],
    ["finetune.scope=each", "benchmark.known=[a wheel, a dish]"],
    ["finetune.itm_negatives=known", "benchmark.known=[a wheel, a dish]"],
], ids=" ".join)
def test_every_way_to_teach_it(own, settings):
    ended = own(*settings)
    assert ended.code == 0, ended.stderr
    assert {row.phase for row in ended.record.metrics} == {"baseline", "transferred"}


@pytest.mark.parametrize(("settings", "line"), [
    (["inversion.distance=cosine"], "inversion.distance: the model knows no 'cosine'; "
                                    "choose one of: match (as in inversion=vilt)"),
    (["finetune.loss=ntxent"], "finetune.loss: the model cannot learn by 'ntxent'; "
                               "choose one of: itm, mlm"),
    (["finetune.scope=each"], "finetune.loss: 'itm' finds no negative captions"),
    (["finetune.strategy=visual_decoder"], "finetune.strategy: the model has no parameters"),
    (["finetune.calibration=budget"], "finetune.calibration: 'budget' needs a benchmark with "
                                      "images of known classes; choose one, such as benchmark=f"),
    (["model=pictoclip"], "finetune.loss: the model cannot learn by 'itm'"),
    (["model=pictoclip", "finetune=paper"], "inversion.distance: the model knows no 'match'; "
                                            "choose one of: cosine, l2, l2_unnormalized"),
])
def test_what_it_cannot_do_is_refused_in_one_line(own, home, settings, line):
    ended = own(*settings)
    assert ended.code == 2
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert line in ended.stderr
    assert not list(home.glob("store/inversion/*"))
