"""``vrooli doctor``: what is configured, which extras are there, whether the model's endpoint answers."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from vrooli_cli.cli.console import Invocation
from vrooli_cli.cli.help import VerbCommand
from vrooli_cli.cli.options import Debug, Json, choice
from vrooli_cli.errors import VrooliError

if TYPE_CHECKING:
    from vrooli_cli.loading.project import Project

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EXTRAS = (
    ("mcp", "mcp", "MCP servers as tools, and `vrooli mcp serve`"),
    ("otel", "opentelemetry.sdk", "traces"),
    ("dask", "distributed", "steps on other machines"),
)
_SECONDS = 5.0
_COLOURS = {"ok": "32", "note": "2", "wrong": "1;31"}


class Finding(NamedTuple):
    """One thing that was looked at; ``note`` is worth knowing and no fault."""

    what: str
    state: Literal["ok", "note", "wrong"]
    told: str


@app.command("doctor", cls=VerbCommand)
def doctor(
    ctx: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the model's endpoint.")] = False,
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FORMAT", **choice("text", "json"), help="text (default) or json."),
    ] = "text",
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Look at what is configured here: project, store, tools, model, extras. Exit 1 when something is wrong.

    Nothing is changed, no model is asked, and no key is shown.
    """
    from vrooli_cli.cli.output import Stdout
    from vrooli_cli.cli.planned import Paper

    call: Invocation = ctx.obj
    call.debug = debug
    findings = list(_findings(call, offline))
    stdout = Stdout(call)
    if json or output == "json":
        stdout.json([one._asdict() for one in findings])
    else:
        paper = Paper(call)
        for one in findings:
            paper.row([(one.what, 10, "1"), (one.state, 5, _COLOURS[one.state])], one.told, "")
        stdout.text(paper.text())
    stdout.check()
    return 1 if any(one.state == "wrong" for one in findings) else 0


def _findings(call: Invocation, offline: bool) -> Iterator[Finding]:
    from vrooli_cli.loading.project import NO_PROJECT, load_project
    from vrooli_cli.model.version import VROOLI

    yield Finding("vrooli", "ok", f"{VROOLI} on Python {platform.python_version()}, {platform.system()}")
    project: Project = NO_PROJECT
    try:
        project = load_project()
        yield _project(project)
    except VrooliError as error:
        yield Finding("project", "wrong", _line(error))
    for look in (_store, _tools, _servers):
        yield from _looked(look, call, project)
    yield from _looked(lambda call, project: _model(call, project, offline), call, project)
    yield from _looked(_traces, call, project)
    yield from _looked(lambda call, project: _executor(call, project, offline), call, project)
    for extra, module, about in _EXTRAS:
        yield _extra(extra, module, about)


def _looked(
    look: Callable[[Invocation, Project], Iterator[Finding]], call: Invocation, project: Project
) -> Iterator[Finding]:
    try:
        yield from look(call, project)
    except VrooliError as error:
        yield Finding(getattr(look, "__name__", "model").strip("_").replace("<lambda>", "model"), "wrong", _line(error))


def _line(error: VrooliError) -> str:
    problems = getattr(error, "problems", ())
    return str(problems[0] if problems else error.message).split("\n", 1)[0]


def _project(project: Project) -> Finding:
    if project.root is None:
        return Finding("project", "note", "none here; `vrooli init` makes one")
    files = list(project.routines.glob("*.y*ml")) if project.routines is not None else []
    count = sum(not path.stem.endswith(".test") for path in files)
    from vrooli_cli.view.text import plural

    told = f"{plural(count, 'routine')}, {plural(len(files) - count, 'test file')}"
    return Finding("project", "ok", f"{project.root}, {told}")


def _store(call: Invocation, project: Project) -> Iterator[Finding]:
    from vrooli_cli.cli.session import open_journal, settings_of
    from vrooli_cli.journal.store import default_store_path

    settings = settings_of(call)
    store = open_journal(settings, project)
    if store is None:
        yield Finding("store", "note", "runs are not kept (VROOLI_NO_STORE)")
        return
    store.close()
    yield Finding("store", "ok", str(settings.store or project.store.get("path") or default_store_path()))


def _tools(call: Invocation, project: Project) -> Iterator[Finding]:
    from vrooli_cli.cli.session import custom_registry, settings_of

    del project
    tools, problems = custom_registry(settings_of(call).tools)
    known = list(tools)
    own = sum(tool.origin != "box" for tool in known)
    yield Finding("tools", "ok", f"{len(known) - own} in the box, {own} of your own")
    for problem in problems:
        yield Finding("tools", "wrong", str(problem))


def _servers(call: Invocation, project: Project) -> Iterator[Finding]:
    from vrooli_cli.tier3.mcp import read_lock

    del call
    servers = project.base.mcp_servers
    if servers:
        locked = "pinned by vrooli.lock" if read_lock(project.root) is not None else "not pinned: `vrooli tools lock`"
        missing = "" if find_spec("mcp") else "; they need pip install 'vrooli[mcp]'"
        state: Literal["ok", "wrong"] = "wrong" if missing else "ok"
        yield Finding("servers", state, f"{', '.join(servers)}; {locked}{missing}")


def _traces(call: Invocation, project: Project) -> Iterator[Finding]:
    from vrooli_cli.tracing import trace_settings

    del project
    settings = trace_settings(call.environ)
    if settings is not None:
        missing = find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None
        need = "; they need pip install 'vrooli[otel]'" if missing else ""
        yield Finding("traces", "wrong" if missing else "ok", f"to {settings.shown}{need}")


def _model(call: Invocation, project: Project, offline: bool) -> Iterator[Finding]:
    from vrooli_cli.cli.session import settings_of
    from vrooli_cli.tier3.ai.models import Models

    models = Models(project.base.models, call.environ, default=settings_of(call).model, allow_unpriced=True)
    for target in models.targets():
        place = f"{target.model} at {target.base_url}"
        if not target.ready:
            yield Finding("model", "note", f"{place}; {target.key_env} is not set, so no model can be asked")
        elif offline:
            yield Finding("model", "ok", f"{place}; not asked")
        else:
            yield _reached(place, target.base_url, target.key)


def _reached(place: str, url: str, key: str | None) -> Finding:
    """Whether the endpoint lists its models; that costs nothing."""
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer: Any = httpx.get(f"{url}/models", headers=headers, timeout=_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return Finding("model", "wrong", f"{place} cannot be reached: {type(error).__name__}: {error}"[:300])
    if answer.status_code in (401, 403):
        return Finding("model", "wrong", f"{place} refuses the key ({answer.status_code})")
    if answer.status_code >= 500:
        return Finding("model", "wrong", f"{place} answers with {answer.status_code}")
    return Finding("model", "ok", f"{place} answers")


def _executor(call: Invocation, project: Project, offline: bool) -> Iterator[Finding]:
    """The Dask cluster that tools run on, when one is configured."""
    from vrooli_cli.cli.session import settings_of
    from vrooli_cli.loading.settings import scheduler_address

    said = settings_of(call).executor_over(project.base.executor)
    address = scheduler_address(said)
    if not address:
        return
    if find_spec("distributed") is None:
        yield Finding("executor", "wrong", f"{said}; it needs pip install 'vrooli[dask]'")
    elif address == "local" or offline:
        yield Finding("executor", "ok", f"{said}; not asked")
    else:
        yield _cluster(address)


def _cluster(address: str) -> Finding:
    import asyncio

    from vrooli_cli.tier3.dask.cluster import census
    from vrooli_cli.tier3.dask.wire import Gone

    try:
        workers, threads = asyncio.run(census(address, _SECONDS))
    except Gone as error:
        return Finding("executor", "wrong", str(error))
    state: Literal["ok", "note"] = "ok" if workers else "note"
    return Finding("executor", state, f"{address} answers: {workers} workers, {threads} steps at one moment")


def _extra(extra: str, module: str, about: str) -> Finding:
    try:
        found = find_spec(module)
    except ModuleNotFoundError:  # of the package around it
        found = None
    if found is None:
        return Finding(extra, "note", f"not installed; for {about}: pip install 'vrooli[{extra}]'")
    try:
        return Finding(extra, "ok", f"{module} {version(module)}; {about}")
    except PackageNotFoundError:  # a namespace of several packages
        return Finding(extra, "ok", about)


@app.command("-", hidden=True)
def _nothing() -> None:
    """Typer makes no group of a single command."""
