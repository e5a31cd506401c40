"""A sweeper of a user's own that searches: it takes one job after another and is told objectives.

It writes what it is told into told.json, in the sweep's folder.
"""

import json
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper


class ToldSweeper(Sweeper):
    def __init__(self, **settings):
        self.settings = settings

    def setup(self, *, hydra_context, task_function, config):
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function)

    def sweep(self, arguments):
        overrides = OverridesParser.create().parse_overrides(arguments)
        [jobs] = BasicSweeper.split_arguments(overrides, None)
        told = [self.launcher.launch([job], initial_job_idx=number)[0].return_value
                for number, job in enumerate(jobs)]
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "told.json").write_text(json.dumps(told))
