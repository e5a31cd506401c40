from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from kt_exp.errors import UserError
from kt_exp.report.runs import find_jobs
from kt_exp.report.sweep_page import write_sweep_page


def test_a_sweep_becomes_one_page_that_needs_nothing_beside_it(sweeps, tmp_path: Path) -> None:
    folder = sweeps.lr_sweep()
    sweeps.failed("lr/2", "<out> of memory", "finetune.lr=3e-05", finetune__lr=3e-5)
    record_folder = sweeps.run("lr/0", {"moongate": sweeps.MOONGATE[1e-5]}, "finetune.lr=1e-05",
                               finetune__lr=1e-5)
    Image.new("RGB", (2000, 300), "red").save(record_folder / "overview.png")
    text = (record_folder / "result.json").read_text()
    (record_folder / "result.json").write_text(
        text.replace('"files": {}', '"files": {"overview": "overview.png"}'))

    page = write_sweep_page(find_jobs([folder]), tmp_path / "page.html").read_text()

    assert "2 completed, 1 failed" in page
    assert "&lt;out&gt; of memory" in page
    assert page.count("<svg") == 2  # over the learning rate, and the trade-off
    assert "data:image/jpeg;base64," in page
    assert "--accent" in page.partition("</style>")[0]
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    with pytest.raises(UserError, match=r"end it in \.html"):
        write_sweep_page(find_jobs([folder]), tmp_path / "page.txt")


def test_what_all_runs_share_is_said_once(sweeps, tmp_path: Path) -> None:
    for lr in ("1e-05", "2e-05"):
        sweeps.run(lr, {"moongate": (0, 60, 58, 57), "tonometer": (10, 20, 58, 56)},
                   "inversion=fast", f"finetune.lr={lr}", finetune__lr=float(lr))
    page = write_sweep_page(find_jobs([sweeps.root]), tmp_path / "page.html").read_text()
    assert "<h1>Knowledge Transfer: ViT-B-32-quickgelu, 2 concepts</h1>" in page
    assert "Concepts: moongate, tonometer" in page
    assert page.count("In all runs: <code>inversion=fast</code>") == 1
    assert page.count("inversion=fast") == 3  # there, and in the command of each run
    assert re.findall(r"</span> (finetune\.lr=.*?)</summary>", page) == [
        "finetune.lr=1e-05", "finetune.lr=2e-05"]
    headers = re.findall(r"<th [^>]*>(.*?)</th>", page)
    assert headers[:3] == ["finetune.lr",
                           'Target after<span class="below">before: 5.0</span>',
                           'Known after<span class="below">before: 58.0</span>']
    assert "40.0" in page.partition("<details>")[0]  # the mean of 60 and 20


def test_one_concept_has_one_table(sweeps, tmp_path: Path) -> None:
    page = write_sweep_page(find_jobs([sweeps.lr_sweep()]), tmp_path / "page.html").read_text()
    assert page.count("<table>") == 1
    assert "Mean over concepts" not in page
    assert "<th scope=\"col\" style=\"text-align:left\">concept</th>" not in page


def test_a_page_plots_what_the_runs_differ_in_and_bars_where_in_nothing(sweeps, tmp_path) -> None:
    def titles(*folders: Path) -> list[str]:
        text = write_sweep_page(find_jobs(folders), tmp_path / "page.html").read_text()
        return re.findall(r"<h2>(.*?)</h2>", text)[1:-1]

    one = sweeps.run("one", {"moongate": (0, 60, 58, 56)})
    assert titles(one) == ["Concepts side by side"]
    other = sweeps.run("other", {"moongate": (0, 60, 58, 56)}, inversion__tv_weight=0)
    assert titles(one, other) == ["Against inversion.tv_weight", "Target against known accuracy"]
    for captions in ("named", "description"):
        for lr in (1e-5, 2e-5):
            sweeps.run(f"names/{captions}{lr}", {"moongate": (0, 60, 58, 56)}, finetune__lr=lr,
                       finetune__captions=captions)
    assert titles(sweeps.root / "names") == ["Captions with and without the name",
                                             "Target against known accuracy"]
