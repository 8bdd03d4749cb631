"""Dagster: an op a step, executed in this process with an instance on disk."""

import logging

from dagster import DagsterInstance, DependencyDefinition, GraphDefinition, In, MultiDependencyDefinition, Nothing, op
from shapes import SHAPES, Clock, asked, tell

workload, count, folder = asked()
logging.disable(logging.CRITICAL)


def made(name, parents):
    @op(name=name, ins={"after": In(Nothing)} if parents else {})
    def run(_):
        return 1

    return run


graph = SHAPES[workload](count)
needs = {
    name: {"after": MultiDependencyDefinition([DependencyDefinition(parent) for parent in parents])} if parents else {}
    for name, parents in graph
}
job = GraphDefinition(name="job", node_defs=[made(*one) for one in graph], dependencies=needs).to_job()
with DagsterInstance.local_temp(folder) as instance:
    clock = Clock()
    result = job.execute_in_process(instance=instance)
    took = clock()
assert result.success
tell(took)
