"""The entrypoint: `python -m kt_exp.run`, or `kt-exp`.

Composes the config, runs the pipeline, and turns what went wrong into one line and an exit code:
0 done, 1 failed, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import os
import sys

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kt_exp.config import conf_folder, register_schema
from kt_exp.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED

# One a job. A job that failed does not raise: the other jobs of a multirun shall still run, and
# Hydra would add lines of its own.
_exit_codes: list[int] = []


@hydra.main(version_base="1.3", config_path=conf_folder(), config_name="config")
def _job(cfg: DictConfig) -> None:
    # Imported here: torch takes seconds, and --help, --cfg and completion do not need it.
    from kt_exp.job import run_job

    _exit_codes.append(run_job(cfg))


def main() -> None:
    """Run the command line and exit."""
    try:
        sys.exit(_main())
    except BrokenPipeError:
        # What reads the output is gone (`| head`). Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _main() -> int:
    register_schema()
    _exit_codes.clear()
    # Hydra then hands exceptions on instead of printing them and exiting with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        _job()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    # A job's own errors stay in the job: these come from the command line or the output folder.
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
        from kt_exp.compose_errors import explain

        print(f"kt-exp: error: {explain(error)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return _summed_up()


def _summed_up() -> int:
    failed = sum(code != 0 for code in _exit_codes)
    if failed and len(_exit_codes) > 1:
        print(f"kt-exp: error: {failed} of {len(_exit_codes)} jobs failed", file=sys.stderr)
    return max(_exit_codes, default=0)


if __name__ == "__main__":
    main()
