"""scripts/bench.py: what it prints and writes, and the loop that it measures against."""

import json

import bench
import pytest
import torch
from hydra._internal.utils import get_args_parser
from PIL import Image
from speed import rows
from speed.common import Bench
from speed.measure import Clock, alternate, count_flops, rate_row
from speed.models import RECIPE, load
from speed.reference import invert_plainly
from tiny_checkpoints import vilt_state, write_vilt

from kt_exp.models import vilt_loading
from kt_exp.models.vilt import ViLTModel

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config():
    return bench._compose([*RECIPE, "device=cpu", "inversion.steps=6", "inversion.upsize_at=[3]"])


@pytest.fixture(scope="module")
def model(config):
    return load("pictoclip", config, torch.device("cpu"), "fp32")


def test_a_small_run_prints_a_table_and_writes_what_it_measured(tmp_path, capsys):
    out = tmp_path / "bench.json"
    bench.main(["inversion=paper", "--what", "inversion", "--images", "2", "--steps", "1",
                "--repeats", "1", "--device", "cpu", "--out", str(out)])
    written = json.loads(out.read_text())
    assert written["versions"]["torch"] == torch.__version__
    assert written["overrides"] == ["inversion=paper"]
    own, lean, bf16, half = written["rows"]
    assert own["unit"] == "image-steps/s"
    assert all(row["ours"] > 0 and row["plain"] > 0 and row["ratio"] > 0
               for row in (own, lean, bf16))
    assert half["share"] == pytest.approx(half["ours"] / half["floor"])
    assert "lean tower" in capsys.readouterr().out


def test_the_reference_finds_images_and_leaves_the_model_frozen(config, model):
    captions = ["a red circle", "a blue square"]
    torch.manual_seed(0)
    images = invert_plainly(model, captions, config.inversion)
    assert images.shape == (2, 3, 64, 64)
    with torch.no_grad():
        found, noise = (model.score(some, captions) for some in (images, torch.rand(2, 3, 64, 64)))
    assert (found > noise).all()
    assert not any(p.requires_grad or p.grad is not None for p in model.module.parameters())


def test_a_curve_goes_on_from_the_points_it_has(tmp_path, capsys):
    points = tmp_path / "points.jsonl"
    words = ["--what", "quality", "--points", str(points), "--out", str(tmp_path / "bench.json"),
             "--device", "cpu", "--seeds", "1", "concepts.only=[madras]", "inversion.images=2",
             "finetune.rehearsal=0", "benchmark.images_per_known_class=1",
             "benchmark.images_per_target=4"]
    bench.main([*words, "--curve", "0", "2"])
    noise, short = (json.loads(line) for line in points.read_text().splitlines())
    assert (noise["steps"], noise["seconds"] < short["seconds"]) == (0, True)
    assert noise["similarity"] < short["similarity"]
    bench.main([*words, "--curve", "0", "2", "3", "--plot", str(tmp_path / "curve.png")])
    assert Image.open(tmp_path / "curve.png").size[0] > 0
    assert [json.loads(line)["steps"] for line in points.read_text().splitlines()] == [0, 2, 3]
    assert "3 steps" in capsys.readouterr().out


def test_a_second_evaluation_and_another_process_open_no_image(tmp_path):
    out = tmp_path / "bench.json"
    bench.main(["benchmark.images_per_known_class=1", "--what", "again", "--device", "cpu",
                "--out", str(out)])
    rows = json.loads(out.read_text())["rows"]
    opened = {row["what"].removesuffix(" of 35 images"): row["against"] for row in rows}
    assert opened == {
        f"{time} {what}": f"{35 if time == 'first' else 0} images opened"
        for what in ("evaluation", "loading") for time in ("first", "second", "another process's")}


def test_a_sweep_is_measured_in_turns_with_a_single_run(config, model, monkeypatch):
    begun = []

    def run(words):
        get_args_parser().parse_args(words)
        begun.append(words)
        return (len(begun), 0.0)

    monkeypatch.setattr(rows, "run_command", run)
    clock = Clock(torch.device("cpu"), of_cpu=False)
    (row,) = rows.sweep(Bench(config, model, clock, repeats=2, images=1, steps=1))
    assert ["-m" in words for words in begun] == [False, True, False, True]
    assert (row.plain, row.ours, row.ratio) == (2, 3, (1 / 2 + 3 / 4) / 2)


def test_pairs_are_scored_by_a_matcher(config, model, monkeypatch, tmp_path):
    network, tokenizer = vilt_loading.load_vilt(
        str(write_vilt(tmp_path, vilt_state("itm_score"))), None)
    small = ViLTModel(network, tokenizer, "itm", "match", "crop", torch.device("cpu"))
    monkeypatch.setattr(rows, "load_vilt", lambda *_: small)
    clock = Clock(torch.device("cpu"), of_cpu=False)
    (row,) = rows.pairs(Bench(config, model, clock, repeats=1, images=2, steps=1))
    assert row.unit == "pairs/s"
    assert row.ours > 0 < row.plain


def test_ways_take_turns_after_a_round_that_does_not_count():
    said = []
    taken = alternate(Clock(torch.device("cpu"), of_cpu=False), 2,
                      {"a": lambda: said.append("a"), "b": lambda: said.append("b")})
    assert said == ["a", "b"] * 3
    assert [len(seconds) for seconds in taken.values()] == [2, 2]


def test_a_ratio_is_the_median_over_the_turns():
    row = rate_row("x", "steps/s", 10, {"ours": [1, 2, 5], "plain": [3, 3, 30]}, "ours", "plain",
                   "y", floor_seconds=1)
    assert (row.ours, row.plain, row.ratio, row.floor, row.share) == (5, 10 / 3, 3, 10, 0.5)


def test_products_are_counted():
    left, right = torch.rand(2, 3), torch.rand(3, 4)
    assert count_flops(lambda: left @ right) == 2 * 2 * 3 * 4


@pytest.mark.parametrize("wrong", [["--clock", "cpu"], ["--wat"], ["--model", "none"],
                                   ["--steps", "0"], ["--images", "-3"], ["--seeds", "two"]])
def test_what_it_cannot_do_is_refused(wrong, capsys):
    with pytest.raises(SystemExit) as error:
        bench.main(wrong)
    assert error.value.code == 2
    assert capsys.readouterr().err


def test_the_closed_form_is_timed_for_one_concept_and_for_many(config, model):
    timed = Bench(config, model, Clock(torch.device("cpu"), of_cpu=True), 1, 1, 1)
    one, many = rows.ROWS["closed_form"](timed)
    assert one.what == "closed form, 1 concept at once"
    assert one.unit == "ms"
    assert 0 < one.plain < one.ours < many.ours
