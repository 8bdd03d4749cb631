"""The project around a file, and the settings of a call."""

from __future__ import annotations

from pathlib import Path

import pytest

from vrooli_cli.errors import DefinitionError, InputError
from vrooli_cli.loading.bundle import load_bundle
from vrooli_cli.loading.project import (
    NO_PROJECT,
    VARIABLES,
    Settings,
    find_project,
    load_project,
    settings_from_environment,
)
from vrooli_cli.model.routine import Limits, Routine


def test_a_project_is_the_nearest_folder_upward_that_is_one(tmp_path: Path) -> None:
    (tmp_path / "outer/routines").mkdir(parents=True)
    (tmp_path / "outer/inner/deep").mkdir(parents=True)
    (tmp_path / "outer/inner/vrooli.yaml").write_text("")
    assert find_project(tmp_path / "outer/inner/deep") == tmp_path / "outer/inner"
    assert find_project(tmp_path / "outer") == tmp_path / "outer"
    assert load_project(tmp_path / "outer").routines == tmp_path / "outer/routines"
    assert load_project(tmp_path / "outer/inner/deep").routines is None
    assert load_project(tmp_path / "outer/inner/gone").root == tmp_path / "outer/inner"


def test_without_a_project_everything_is_empty(tmp_path: Path) -> None:
    if find_project(tmp_path) is None:  # nobody has a project in the folder of temporary files
        assert load_project(tmp_path) == NO_PROJECT
    assert NO_PROJECT.routines is None and NO_PROJECT.tools is None and not NO_PROJECT.permissions


def test_vrooli_yaml_is_read_into_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("vrooli.yaml").write_text(
        """
models: {default: {model: m}}
permissions: {deny: [shell]}
policy: {strategies: {reasoning: ask}}
allocation: {max_credits: 10}
mcp_servers: {git: {command: uvx}}
env: [LANG]
secrets: {key: {env: KEY}}
events: [{subscribe: "**/failed", tool: echo}]
executor: {dask: local}
defaults: {timeout: 3s}
limits: {file_mb: 1, depth: 20, nodes: 1000}
agents: {monitor: false}
"""
    )
    project = load_project()
    assert project.base.models == {"default": {"model": "m"}}
    assert project.base.limits == Limits(max_credits=10)
    assert project.base.secrets == {"key": "KEY"} and project.base.env == {"LANG": None}
    assert project.base.executor == {"dask": "local"}
    assert project.permissions.deny[0].source.endswith("vrooli.yaml:3")
    assert (project.limits.file_bytes, project.limits.depth, project.limits.nodes) == (2**20, 20, 1000)
    assert project.agents == {"monitor": False}
    Path("r.yaml").write_text("steps: [{id: a, tool: echo}]")
    routine = load_bundle("r.yaml").definition
    assert isinstance(routine, Routine)
    assert (routine.steps[0].timeout_ms, routine.limits.max_credits) == (3000, 10)
    assert not routine.permissions, "the project's permissions are a level of their own"
    assert [agent.subscribe for agent in routine.events] == ["**/failed"]


def test_a_wrong_vrooli_yaml_is_told_with_its_lines(tmp_path: Path) -> None:
    (tmp_path / "vrooli.yaml").write_text("model: {}\nlimits: {file_mb: 0}\n")
    with pytest.raises(DefinitionError) as caught:
        load_project(tmp_path)
    first, second = caught.value.problems
    assert (first.line, first.hint) == (1, "did you mean 'models'?")
    assert (second.line, second.message) == (2, "`file_mb` must be a number above 0, not the number 0")


def test_a_file_that_is_larger_than_the_project_allows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vrooli.yaml").write_text("limits: {nodes: 5}")
    (tmp_path / "r.yaml").write_text("steps: [{id: a, tool: echo}, {id: b, tool: echo}]")
    with pytest.raises(DefinitionError):
        load_bundle(tmp_path / "r.yaml")


def test_the_environment_sets_what_flags_do_not() -> None:
    environ = {"VROOLI_MODEL": "m", "VROOLI_TIMEOUT": "1m", "VROOLI_YES": "true", "VROOLI_VIEW": "", "VROOLI_1": "x"}
    settings = Settings(model="flag").over(settings_from_environment(environ))
    assert (settings.model, settings.timeout_ms, settings.yes, settings.view) == ("flag", 60_000, True, None)
    assert settings_from_environment({}) == Settings()


def test_every_wrong_variable_is_told_at_once() -> None:
    environ = dict.fromkeys(VARIABLES, "?")
    with pytest.raises(InputError) as caught:
        settings_from_environment(environ)
    lines = caught.value.message.splitlines()
    assert len(lines) == len(VARIABLES) - 3  # any text is a model, a store or a folder
    assert all(line.startswith("VROOLI_") for line in lines)


def test_flags_go_before_the_allocation_of_a_file() -> None:
    file = Limits(max_credits=5, max_memory_mb=1)
    assert Settings().ceilings(file) == file
    assert Settings(max_credits=100, max_cost=0.00005, max_concurrent=2).ceilings(file) == Limits(50, None, 1, 2)
