"""LangGraph: a node a step, with its SQLite saver, which is what makes a graph resumable."""

import operator
from pathlib import Path
from typing import Annotated, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from shapes import SHAPES, Clock, asked, tell

workload, count, folder = asked()


class State(TypedDict):
    done: Annotated[int, operator.add]


builder = StateGraph(State)
graph = SHAPES[workload](count)
ends = {name for name, _ in graph} - {parent for _, parents in graph for parent in parents}
for name, parents in graph:
    builder.add_node(name, lambda state: {"done": 1})
    builder.add_edge(list(parents) if parents else START, name)
for name in ends:
    builder.add_edge(name, END)
with SqliteSaver.from_conn_string(str(Path(folder) / "langgraph.db")) as saver:
    app = builder.compile(checkpointer=saver)
    clock = Clock()
    state = app.invoke({"done": 0}, {"configurable": {"thread_id": "1"}, "recursion_limit": count + 10})
    took = clock()
assert state["done"] == count, state
tell(took)
