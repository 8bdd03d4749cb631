"""GNU make with eight jobs: a phony target a step, each starts ``true``."""

import subprocess
from pathlib import Path

from shapes import SHAPES, Clock, asked, tell

workload, count, folder = asked()
graph = [(f"s{i}", ()) for i in range(count)] if workload == "shell" else SHAPES[workload](count)
names = " ".join(name for name, _ in graph)
rules = [f"{name}: {' '.join(parents)}\n\t@true\n" for name, parents in graph]
file = Path(folder) / "Makefile"
file.write_text(f"all: {names}\n.PHONY: all {names}\n" + "".join(rules))
clock = Clock()
subprocess.run(["make", "-j8", "-s", "-f", str(file)], check=True)
tell(clock())
