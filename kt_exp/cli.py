"""The command line: `kt-exp`, or `python -m kt_exp.run`.

A first word that is a command runs that (kt_exp.commands). Everything else composes the config and
runs the pipeline. Errors are reported in one line and by the exit code: 0 done, 1 failed, 2 bad
input, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from kt_exp import __version__
from kt_exp.commands import command_of, run_command
from kt_exp.config.compose_errors import COMPOSE_ERRORS, explain, mapping_error
from kt_exp.config.override_quotes import with_quotes
from kt_exp.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, UserError
from kt_exp.runs.check import Checked, Problems
from kt_exp.runs.dry_run import dry_run, leaving_nothing
from kt_exp.runs.exit_code import exit_code
from kt_exp.runs.job_objective import job_objective
from kt_exp.runs.session import Session
from kt_exp.runs.single_run import check_single_run
from kt_exp.runs.skip_completed import run_unless_done
from kt_exp.schema import conf_folder, register_schema
from kt_exp.standard_streams import discard_output, open_standard_streams


def main() -> None:
    """Run the command line and exit."""
    open_standard_streams()
    session = Session()
    try:
        if sys.argv[1:2] == ["--version"]:
            print(f"kt-exp {__version__}")
            code = 0
        elif command := command_of(sys.argv[1:]):
            code = run_command(command, sys.argv[2:])
        else:
            with session.active(), leaving_nothing(session):
                code = _main(session)
        sys.stdout.flush()
    except BrokenPipeError:  # The reader of the output has exited (`| head`).
        discard_output()
        code = max(session.codes, default=0)
    sys.exit(code)


def _main(session: Session) -> int:
    register_schema()
    sys.argv[1:] = map(with_quotes, sys.argv[1:])
    # Makes Hydra pass exceptions on instead of printing them and exiting with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"

    # A failed job does not raise: the other jobs of a multirun still have to run, and Hydra would
    # print lines of its own.
    @hydra.main(version_base="1.3", config_path=conf_folder(), config_name="config")
    def job(cfg: DictConfig) -> float | tuple[float, ...]:
        try:
            check_single_run()
            if session.target:
                dry_run([Checked(0, (), cfg, session.target)], Problems())
                return 0.0
            code = run_unless_done(cfg, session)
        except UserError as error:
            code = _bad_input(error)
        session.codes.append(code)
        return job_objective(cfg, Path(HydraConfig.get().runtime.output_dir), code)

    try:
        _check_options()
        job()
    except SystemExit as ended:  # Hydra's own options, such as --help
        return int(ended.code or 0)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    # Errors of jobs are handled in the job. These come from the options, the launcher …
    except UserError as error:
        return _bad_input(error)
    # … the command line, a config file or the output folder.
    except COMPOSE_ERRORS as error:
        folder_key = "hydra.sweep.dir" if session.sweep else "hydra.run.dir"
        return _bad_input(explain(error, folder_key))
    except (AssertionError, AttributeError) as error:
        if explained := mapping_error(error):
            return _bad_input(explained)
        raise
    return exit_code(session)


def _check_options() -> None:
    # Hydra's parser would print its usage, without saying that options must precede overrides.
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    parser.parse_args()


def _refuse(message: str) -> NoReturn:
    raise UserError("command line", message,
                    "options go before all overrides: kt-exp -m key=value …")


def _bad_input(error: UserError) -> int:
    print(f"kt-exp: error: {error}", file=sys.stderr)
    return EXIT_BAD_INPUT


if __name__ == "__main__":
    main()
