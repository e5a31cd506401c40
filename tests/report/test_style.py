"""What figures are drawn with."""

import sys

from kt_exp.report.style import has_matplotlib


def test_a_matplotlib_whose_import_was_interrupted_counts_as_absent(tmp_path, monkeypatch):
    # Its parts that were imported before hold on to the module that is gone.
    (tmp_path / "matplotlib.py").write_text("import sys\nsys.absent\n", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert not has_matplotlib()
