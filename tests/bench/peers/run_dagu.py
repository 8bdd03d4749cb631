"""Dagu: its binary, a step with ``true`` each."""

import os
import subprocess
from pathlib import Path

from shapes import SHAPES, Clock, asked, tell

workload, count, folder = asked()
graph = [(f"s{i}", ()) for i in range(count)] if workload == "shell" else SHAPES[workload](count)
lines = ["type: graph", "maxActiveSteps: 8", "steps:"]
for name, parents in graph:
    lines += [f"  - id: {name}", f"    name: {name}", "    command: 'true'"]
    if parents:
        lines.append(f"    depends: [{', '.join(parents)}]")
file = Path(folder) / "work.yaml"
file.write_text("\n".join(lines))
clock = Clock()
subprocess.run(
    [os.environ["BENCH_DAGU"], "start", str(file)],
    env={**os.environ, "DAGU_HOME": folder, "HOME": folder},
    check=True,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)
tell(clock())
