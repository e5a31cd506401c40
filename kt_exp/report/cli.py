"""`kt-report`: tables, plots, one page and the state of runs, from their files alone.

Exit codes: 0 done; 1 a number differs from the published one, or there is none to compare
(`--check`); 2 bad input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any, NoReturn

import yaml
from rich.console import Console

from kt_exp import __version__
from kt_exp.config.renames import former_name
from kt_exp.errors import EXIT_BAD_INPUT, UserError
from kt_exp.report import plots
from kt_exp.report.controls import controls
from kt_exp.report.costs import cost_grid, published_costs
from kt_exp.report.cross import cross
from kt_exp.report.front import front
from kt_exp.report.grid import FORMATS, print_grid
from kt_exp.report.paper import KNOWN_CANDIDATES, comparable, disagreements, fill, paper_grid
from kt_exp.report.pivot import pivot
from kt_exp.report.published import find_table, published
from kt_exp.report.runs import Job, find_jobs
from kt_exp.report.status import status_grid
from kt_exp.report.sweep_page import write_sweep_page
from kt_exp.report.table import overview
from kt_exp.standard_streams import discard_output, open_standard_streams

EXIT_DIFFERS = 1
PIPE_WIDTH = 160  # columns where there is no terminal


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    open_standard_streams()
    try:
        code = _main(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except UserError as error:
        print(f"kt-report: error: {error}", file=sys.stderr)
        code = EXIT_BAD_INPUT
    except BrokenPipeError:  # The reader of the output has exited (`| head`).
        discard_output()
        code = 0
    except OSError as error:  # of printing; files are handled where they are read and written
        discard_output()
        print(f"kt-report: error: cannot write ({error.strerror})", file=sys.stderr)
        code = EXIT_BAD_INPUT
    sys.exit(code)


def _main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    return options.run(options)


def _table(options: argparse.Namespace) -> int:
    if options.check is not None and options.table is None:
        raise UserError("--check", "nothing to compare with", "name a table: --table tab1")
    if options.table is not None:
        return _paper_table(options)
    jobs = _jobs(options)
    metrics = options.metrics.split(",") if options.metrics else []
    grid = pivot(jobs, options.pivot, options.prompts, metrics) if options.pivot else \
        overview(jobs, options.prompts, metrics)
    print_grid(grid, options.format, _console())
    return 0


def _paper_table(options: argparse.Namespace) -> int:
    if options.pivot or options.prompts or options.metrics:
        raise UserError("--table", "the paper's tables have a layout of their own",
                        "leave --pivot, --prompts and --metrics out")
    if options.table in published_costs():
        return _cost_table(options)
    table, tolerance = find_table(options.table), options.check
    rows = fill(table, _jobs(options), options.known_candidates)
    print_grid(paper_grid(table, rows, tolerance), options.format, _console())
    if tolerance is None:
        return 0
    differing, compared = disagreements(rows, tolerance), comparable(rows)
    print(f"{compared} {'cell' if compared == 1 else 'cells'} compared; {len(differing)} differ by "
          f"more than {tolerance:g} points, failed or are ambiguous", file=sys.stderr)
    return EXIT_DIFFERS if differing or not compared else 0


def _cost_table(options: argparse.Namespace) -> int:
    if options.check is not None:
        raise UserError("--check", "seconds and memory depend on the machine",
                        f"leave it out for {options.table}")
    table = published_costs()[options.table]
    print_grid(cost_grid(table, _jobs(options)), options.format, _console())
    return 0


def _plot(options: argparse.Namespace) -> int:
    for path in plots.save(_jobs(options), options.kind, options.out):
        print(path)
    return 0


def _page(options: argparse.Namespace) -> int:
    print(write_sweep_page(_jobs(options), options.out))
    return 0


def _controls(options: argparse.Namespace) -> int:
    print_grid(controls(_jobs(options)), options.format, _console())
    return 0


def _cross(options: argparse.Namespace) -> int:
    print_grid(cross(_jobs(options)), options.format, _console())
    return 0


def _front(options: argparse.Namespace) -> int:
    print_grid(front(_jobs(options)), options.format, _console())
    return 0


def _status(options: argparse.Namespace) -> int:
    print_grid(status_grid(find_jobs(options.runs)), "rich", _console())
    return 0


def _jobs(options: argparse.Namespace) -> list[Job]:
    return find_jobs(options.runs, dict(map(_condition, options.where)))


def _condition(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if former := former_name(key) or former_name(text):
        raise former
    if not (key and equals):
        raise UserError("--where", f"'{text}' is not a condition", "write KEY=VALUE")
    return key, value.split(",") if "," in value else yaml.safe_load(value or "''")


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not value >= 0:  # nan neither
        raise argparse.ArgumentTypeError(f"'{text}' is no number of points; it is 0 or more")
    return value


def _console() -> Console:
    if hasattr(sys.stdout, "reconfigure"):
        # On a pipe that is not UTF-8 an arrow becomes "?", instead of raising an error.
        sys.stdout.reconfigure(errors="replace")
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        former = next(filter(None, map(former_name, message.replace("=", " ").split())), None)
        raise former or UserError("command line", message, f"{self.prog} --help")


def _parser() -> _Parser:
    parser = _Parser(prog="kt-report", description=__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=f"kt-report {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    table = _command(commands, "table", _table, "what was measured, or a table of the paper")
    table.add_argument("--table", metavar="NAME",
                       help="a table of the paper: "
                            f"{', '.join([*published(), *published_costs()])}")
    table.add_argument("--known-candidates", choices=KNOWN_CANDIDATES, default="known_only",
                       help="with --table: known accuracy among the known classes alone "
                            "(default), or with the new concept among the candidates")
    table.add_argument("--format", choices=FORMATS, default="rich")
    table.add_argument("--pivot", metavar="KEY",
                       help="a column for each value of a setting: finetune.lr")
    table.add_argument("--prompts", action="store_true",
                       help="what the untrained model finds by the name and by the description")
    table.add_argument("--metrics", metavar="A,B",
                       help="the metrics to show (auroc,target_at_5), or all; by default accuracy, "
                            "target accuracy at 2 points lost, and those of other tasks")
    table.add_argument("--check", type=_tolerance, metavar="TOL",
                       help="exit 1 where a number differs by more than TOL points")

    plot = _command(commands, "plot", _plot, "accuracy against learning rate and the like")
    plot.add_argument("--kind", metavar="KIND", required=True,
                      help=f"{', '.join(plots.KINDS)}; or the key of a setting that was varied")
    plot.add_argument("--out", type=Path, required=True, metavar="FILE",
                      help="FILE.png, .svg or .pdf; without an ending, PNG and SVG")

    page = _command(commands, "page", _page, "a sweep as one HTML page")
    page.add_argument("--out", type=Path, required=True, metavar="FILE.html")

    control = _command(commands, "controls", _controls,
                       "the recipe beside its controls: was knowledge gained?")
    control.add_argument("--format", choices=FORMATS, default="rich")

    crossed = _command(commands, "cross", _cross,
                       "images inverted from one model teach another: do they transfer?")
    crossed.add_argument("--format", choices=FORMATS, default="rich")

    methods = _command(commands, "front", _front,
                       "methods side by side: target against known accuracy, and seconds")
    methods.add_argument("--format", choices=FORMATS, default="rich")

    status = commands.add_parser("status", help="how far each job is")
    status.add_argument("runs", nargs="+", metavar="RUNS", help="folders of runs and sweeps")
    status.set_defaults(run=_status)
    return parser


def _command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text)
    command.add_argument("runs", nargs="+", metavar="RUNS", help="folders of runs and sweeps")
    command.add_argument("--where", action="append", default=[], metavar="KEY=VALUE",
                         help="only runs with this setting; A,B: one of these; * for anything; "
                              "!A: not this one")
    command.set_defaults(run=run)
    return command


if __name__ == "__main__":
    main()
