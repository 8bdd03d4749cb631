"""doit: a task a step with a Python action, its default database."""

from pathlib import Path

from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from shapes import SHAPES, Clock, asked, tell

workload, count, folder = asked()


def task_all():
    for name, parents in SHAPES[workload](count):
        yield {"basename": name, "actions": [lambda: True], "task_dep": list(parents), "verbosity": 0}


config = {"dep_file": str(Path(folder) / "doit.db"), "reporter": "zero"}
clock = Clock()
code = DoitMain(ModuleTaskLoader({"task_all": task_all, "DOIT_CONFIG": config})).run([])
took = clock()
assert code in (0, None), code
tell(took)
