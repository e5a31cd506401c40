"""Figures of runs, drawn with matplotlib (extra `plots`), which is imported on first use."""

from kt_exp.report.plots.chart import FORMATS, Chart
from kt_exp.report.plots.curves import Curve, Panel, Point, draw_curves
from kt_exp.report.plots.history import draw_history
from kt_exp.report.plots.kinds import KINDS, PlotKind, draw, plot_kind, save, suitable
from kt_exp.report.plots.layout import PanelRow
from kt_exp.report.plots.tradeoff import draw_run
from kt_exp.report.plots.x_axis import BASE, XAxis, x_axis

__all__ = ["BASE", "FORMATS", "KINDS", "Chart", "Curve", "Panel", "PanelRow",
           "PlotKind", "Point", "XAxis", "draw", "draw_curves", "draw_history", "draw_run",
           "plot_kind", "save", "suitable", "x_axis"]
