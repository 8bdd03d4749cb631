"""A file and everything that it can reach, read once: the closed world of a run (spec engine.md (a)).

After this nothing is read from disk for its meaning. Every ``routine:`` of a step, an agent or an event agent is a file
of the bundle; calls that go in a circle or too deep, and parameters that a child does not declare, are found here.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
import sys
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import field, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, BinaryIO

from vrooli_cli.errors import DefinitionError, Pointer, Problem
from vrooli_cli.language.schema import check_schema, compile_schema
from vrooli_cli.loading.compose import collector_paused
from vrooli_cli.loading.files import (
    FileRead,
    find_routine,
    is_bare,
    kind_of_path,
    like,
    main_file,
    read_content,
    read_regular,
    shown,
)
from vrooli_cli.loading.home import NO_PROJECT, Project
from vrooli_cli.loading.includes import MOST_INCLUDES, beside, included_names
from vrooli_cli.loading.knowledge import MOST_ALTOGETHER, knowledge_texts, matching
from vrooli_cli.loading.limits import Limits
from vrooli_cli.loading.loaded import LoadedBundle, refusal, steps_of
from vrooli_cli.loading.project import load_project, project_of_text
from vrooli_cli.loading.routine import build_routine, findings_of, kind_of, placed, read_routine
from vrooli_cli.loading.shapes import Findings, has_expression, shorten
from vrooli_cli.loading.source import SourceMap
from vrooli_cli.loading.swarm import TASK_INPUTS, read_swarm
from vrooli_cli.loading.text import Document, read_text
from vrooli_cli.model.routine import Bundle, ChildRoutine, EventAgent, Input, Prompt, Routine, ToolCall
from vrooli_cli.model.run import WorkflowDefinition
from vrooli_cli.model.swarm import SwarmBundle, SwarmDefinition
from vrooli_cli.model.values import lean

__all__ = ["STDIN", "LoadedBundle", "bundle_of_workflow", "load_bundle", "load_stored", "refusal", "steps_of"]

DEEPEST_CALL = 16
"""Child runs inside each other (spec routine.md, ``routine``)."""
MOST_FILES = 1000
# Tools that higher floors lay over the registry while a swarm or a routine runs; a model may be given them.
_OVERLAID = ("knowledge_search", "blackboard_")
STDIN = "-"
_XML_ENCODING = re.compile(rb"""(?:\xef\xbb\xbf)?<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z][\w.-]{0,40})["']""")


def load_bundle(
    path: str | Path,
    *,
    project: Project | None = None,
    stdin: BinaryIO | bytes | None = None,
    limits: Limits | None = None,
    known_tools: Collection[str] | None = None,
    raises: bool = True,
) -> LoadedBundle:
    """The file, or the routine of that name in the project, and everything that it reaches.

    Args:
        path: A path, a bare name, or ``-`` for stdin (whose references are relative to the current folder).
        project: The project; default: the one around the file.
        stdin: What ``-`` reads; default: the process's stdin.
        limits: How large a file may be; default: the project's.
        known_tools: Names of the tools there are; None leaves tool names unchecked.
        raises: False gives what could be understood together with its problems, so that other floors can add theirs.

    Raises:
        DefinitionError: With every problem of every file, placed; without ``raises`` only when the main file cannot be
            read at all.
    """
    reference = str(path)
    if project is None:
        project = load_project(_folder_of(reference))
    limits = limits or project.limits
    world = _World(project, limits, known_tools)
    with collector_paused():
        main = world.read_main(reference, stdin)
        world.read_rest()
        world.check()
    loaded = replace(world.loaded(main), asked="" if reference == STDIN else reference)
    if raises and not loaded.sound:
        raise refusal(loaded.problems)
    return loaded


def load_stored(definition: Mapping[str, Any]) -> LoadedBundle:
    """The bundle of a run as the journal recorded it (``texts`` and what stands in ``Bundle.origin``); reads no file.

    Raises:
        DefinitionError: There is nothing to load, or this version of vrooli does not take it any more.
    """
    texts, main = definition.get("texts"), definition.get("main")
    if not isinstance(texts, Mapping) or main not in texts:
        raise DefinitionError([Problem((), "the run was not started from a file, so its definition is not recorded")])
    world = _StoredWorld(definition, _stored_project(definition.get("project") or {}))
    with collector_paused():
        world.read_main(str(main), None)
        world.read_rest()
        world.check()
    loaded = world.loaded(str(main))
    if not loaded.sound:
        raise refusal(loaded.problems)
    return loaded


def _stored_project(stored: Mapping[str, Any]) -> Project:
    if not stored.get("root"):
        return NO_PROJECT
    root, file = Path(stored["root"]), stored.get("file")
    return project_of_text(stored.get("text") or "", root, Path(file) if file else None)


def _folder_of(reference: str) -> Path:
    if reference == STDIN or is_bare(reference) or "\0" in reference:
        return Path()
    return Path(reference).parent


@lean(frozen=False)
class _File:
    """A file of the bundle while it is being made."""

    key: str
    name: str
    folder: Path
    read: FileRead | None = None
    made: Routine | SwarmDefinition | None = None
    children: list[str] = field(default_factory=list)

    @property
    def source(self) -> SourceMap | None:
        return self.read.document.source if self.read else None


class _World:
    """The files that were found so far, those still to be read, and what is wrong."""

    def __init__(self, project: Project, limits: Limits, known_tools: Collection[str] | None) -> None:
        self._project = project
        self._limits = limits
        self._known_tools = None if known_tools is None else frozenset(known_tools)
        self._files: dict[str, _File] = {}
        self._open: deque[_File] = deque()
        self._problems: list[Problem] = []
        self._texts: dict[str, str] = {}
        self._digests: dict[str, bytes] = {}
        self._project_events: tuple[EventAgent, ...] = ()
        self._references: dict[str, dict[str, str]] = {}
        self._knowledge: dict[str, str] = {}

    # Reading

    def read_main(self, reference: str, stdin: BinaryIO | bytes | None) -> str:
        """Read the file that was asked for; the answer is its key."""
        if reference == STDIN:
            file = _File(STDIN, STDIN, Path())
            content = _drain(sys.stdin.buffer if stdin is None else stdin, self._limits)
            self._files[STDIN] = file
            file.read = FileRead(content, read_text(content, "<stdin>", self._limits))
        else:
            file = self._main_file(reference)
            file.read = read_regular(Path(file.key), file.name, self._limits)
        self._understand(file, main=True)
        self._project_agents()
        return file.key

    def _main_file(self, reference: str) -> _File:
        found = main_file(reference, self._project.routines)
        if found is not None:
            return self._file(found, reference if found == Path(reference) else shown(found))
        if kind_of_path(reference) == "folder":
            message, hint = "this is a folder; a file was expected", ""
        else:
            hint = like(reference, Path(), self._project.routines)
            message = "there is no such file or routine"
        raise DefinitionError([Problem((), message, hint, file=shorten(reference, 200) or "''")])

    def _file(self, path: Path, name: str) -> _File:
        try:
            resolved = path.resolve()
        except (OSError, RuntimeError):  # a loop of links
            resolved = path.absolute()
        key = str(resolved)
        if key not in self._files:
            self._files[key] = _File(key, name, resolved.parent)
        return self._files[key]

    def _resolve(self, file: _File, reference: str, at: Pointer, findings: Findings) -> str:
        path = find_routine(reference, file.folder, self._project.routines)
        if path is None:
            hint = like(reference, file.folder, self._project.routines)
            if is_bare(reference):
                message = f"there is no routine {shorten(reference)!r} in routines/ or beside this file"
            else:
                message = f"there is no file {shorten(reference, 80)!r}; paths are relative to the file that names them"
            findings.add(at, message, hint)
            return ""
        known = len(self._files)
        child = self._file(path, shown(path))
        if len(self._files) > known:
            if known >= MOST_FILES:
                del self._files[child.key]
                findings.add(at, f"more than {MOST_FILES} files belong to this one")
                return ""
            self._open.append(child)
        self._references.setdefault(file.key, {})[reference] = child.key
        return child.key

    def read_rest(self) -> None:
        """Read every file that is reached, each once."""
        while self._open:
            file = self._open.popleft()
            try:
                file.read = read_regular(Path(file.key), file.name, self._limits)
                self._understand(file, main=False)
            except DefinitionError as error:
                self._problems += error.problems

    def _understand(self, file: _File, *, main: bool) -> None:
        assert file.read is not None
        document = file.read.document
        self._texts[file.key] = document.source.text
        self._digests[file.key] = hashlib.sha256(file.read.content).digest()
        self._problems += document.warnings

        def resolve(reference: str, at: Pointer, findings: Findings) -> str:
            return self._resolve(file, reference, at, findings)

        if main and kind_of(document.data, Findings()) == "swarm":
            self._swarm(file, document)
            return
        name = file.name
        made, problems = read_routine(
            document.data, path=name, key=file.key, source=document.source, base=self._project.base, resolve=resolve
        )
        file.made = made
        self._problems += problems

    def _swarm(self, file: _File, document: Document) -> None:
        made, problems = read_swarm(
            document.data,
            path=file.name,
            key=file.key,
            folder=str(file.folder),
            source=document.source,
            base=self._project.base,
            resolve=lambda reference, at, findings: self._resolve(file, reference, at, findings),
            constraints=lambda reference, at, findings: self._constraints(file, reference, at, findings),
        )
        file.made = made
        self._problems += problems
        findings = findings_of(document.source)
        self._knowledge = self._read_knowledge(made, findings)
        self._problems += placed(findings, document.source)

    def _read_knowledge(self, swarm: SwarmDefinition, findings: Findings) -> dict[str, str]:
        """Name → text of what the swarm may look up."""
        found: set[Path] = set()
        for n, pattern in enumerate(swarm.knowledge):
            files = matching(pattern, swarm.folder)
            found.update(files)
            if not files:
                hint = "paths and globs are relative to the swarm's file"
                findings.add(("knowledge", n), f"no file is {pattern!r}", hint)
        texts, all_of_it = knowledge_texts(found, swarm.folder)
        if not all_of_it:
            most = MOST_ALTOGETHER >> 20
            findings.warn(("knowledge",), f"the files are more than {most} MiB; what is behind cannot be looked up")
        for name, text in texts.items():
            self._digests[f"knowledge:{name}"] = hashlib.sha256(text.encode()).digest()
        return texts

    def _constraints(self, file: _File, reference: str, at: Pointer, findings: Findings) -> tuple[str, Any]:
        """The key of an organisation's file, and its data when it is YAML."""
        path = file.folder / reference
        name = shown(path)
        try:
            content = read_content(path, name, self._limits)
            key = str(path.resolve())
            if path.suffix.lower() == ".xml":
                self._texts[key] = xml_text(content, name)
                self._read_includes(Path(key))
                data = None
            else:
                document = read_text(content, name, self._limits)
                self._texts[key], data = document.source.text, document.data
        except DefinitionError as error:
            for problem in error.problems:
                if problem.line:
                    self._problems.append(problem)
                    findings.count += 1
                else:
                    findings.add(at, f"constraints {shorten(reference)!r}: {problem.message}", problem.hint)
            return "", None
        self._digests[key] = hashlib.sha256(content).digest()
        self._references.setdefault(file.key, {})[reference] = key
        return key, data

    def _read_includes(self, main: Path) -> None:
        """The files that an XML organisation includes; what cannot be read is told where they are understood."""
        files = [main]
        for file in files:  # which grows
            for uri in included_names(self._texts[str(file)]):
                path = beside(file, uri)
                if path is None or (len(files) > MOST_INCLUDES and path not in files):
                    continue
                self._references.setdefault(str(file), {})[uri] = str(path)
                if str(path) not in self._texts and self._read_include(path):
                    files.append(path)

    def _read_include(self, path: Path) -> bool:
        try:
            content = read_content(path, shown(path), self._limits)
        except DefinitionError:
            return False
        self._texts[str(path)] = xml_text(content, shown(path))
        self._digests[str(path)] = hashlib.sha256(content).digest()
        return True

    def _project_agents(self) -> None:
        """The project's event agents listen to every run; their routines belong to the world as well."""
        project = self._project
        if not project.events or project.root is None:
            return
        home = _File(str(project.file), shown(project.file) if project.file else "", project.root)
        findings = findings_of(project.source)
        agents = []
        for agent in project.events:
            action = agent.action
            if isinstance(action, ChildRoutine):
                target = self._resolve(home, action.reference, (*agent.pointer, "routine"), findings)
                agent = replace(agent, action=replace(action, target=target))
            agents.append(agent)
        self._project_events = tuple(agents)
        self._problems += placed(findings, project.source)

    # Checking

    def check(self) -> None:
        """What only the whole world shows: circles, depth, parameters of children, tools that nobody has."""
        for file in list(self._files.values()):
            if file.made is None or file.read is None:
                continue
            findings = findings_of(file.source)
            checker = _Checker(file, self._files, self._known_tools, findings)
            checker.check()
            self._problems += placed(findings, file.source)
        self._check_calls()

    def _check_calls(self) -> None:
        graph = {key: file.children for key, file in self._files.items()}
        sorter = TopologicalSorter(graph)
        try:
            order = list(sorter.static_order())
        except CycleError as error:
            self._circle(list(reversed(error.args[1])))
            return
        depth: dict[str, int] = {}
        for key in order:
            depth[key] = 1 + max((depth[child] for child in self._files[key].children), default=-1)
        deepest = next(iter(self._files), None)
        if deepest is not None and depth.get(deepest, 0) > DEEPEST_CALL:
            path = [deepest]
            while self._files[path[-1]].children:
                path.append(max(self._files[path[-1]].children, key=lambda key: depth[key]))
            names = " → ".join(self._files[key].name for key in path[: DEEPEST_CALL + 2])
            self._at_call(path[0], path[1], f"routines call each other more than {DEEPEST_CALL} deep: {names}")

    def _circle(self, circle: list[str]) -> None:
        circle = circle[:-1]
        order = list(self._files)
        start = min(range(len(circle)), key=lambda n: order.index(circle[n]))
        path = [*circle[start:], *circle[:start], circle[start]]
        names = " → ".join(self._files[key].name for key in path)
        self._at_call(path[-2], path[-1], f"a routine cannot reach itself: {names}")

    def _at_call(self, caller: str, child: str, message: str) -> None:
        file = self._files[caller]
        at: Pointer = next((at for call, at in _calls(file.made) if call.target == child), ())
        problem = Problem(at, message, file=file.source.name if file.source else file.name)
        self._problems.append(file.source.place(problem) if file.source else problem)

    # The result

    def loaded(self, main: str) -> LoadedBundle:
        """The bundle; DefinitionError when there is none."""
        if self._files[main].made is None:
            raise refusal(self._problems)
        routines = {key: file.made for key, file in self._files.items() if isinstance(file.made, Routine)}
        digest = hashlib.sha256(b"".join(self._digests[key] for key in sorted(self._digests))).hexdigest()
        sources = {key: file.source for key, file in self._files.items() if file.source is not None}
        made = self._files[main].made
        bundle: Bundle | SwarmBundle
        if isinstance(made, SwarmDefinition):
            origin = {**self._origin(main, digest), "knowledge": self._knowledge}
            swarm = replace(made, events=(*made.events, *self._project_events))
            bundle = SwarmBundle(swarm, routines, digest, self._texts, origin, self._knowledge)
        else:
            if self._project_events:
                routine = routines[main]
                routines[main] = replace(routine, events=(*routine.events, *self._project_events))
            bundle = Bundle(main, routines, digest, self._texts, self._origin(main, digest))
        problems = tuple(dict.fromkeys((*self._project.warnings, *self._problems)))
        return LoadedBundle(bundle, sources, problems, self._project)

    def _origin(self, main: str, digest: str) -> dict[str, Any]:
        """What :func:`load_stored` needs beside the texts."""
        project = self._project
        home = {"root": str(project.root), "file": str(project.file) if project.file else None, "text": project.text}
        return {
            "main": main,
            "digest": digest,
            "names": {key: file.name for key, file in self._files.items()},
            "references": self._references,
            "project": home if project.root is not None else None,
        }


class _StoredWorld(_World):
    """The same from the texts that a run's record holds."""

    def __init__(self, definition: Mapping[str, Any], project: Project) -> None:
        super().__init__(project, project.limits, None)
        self._stored: Mapping[str, str] = definition["texts"]
        self._names: Mapping[str, str] = definition.get("names") or {}
        self._known: Mapping[str, Mapping[str, str]] = definition.get("references") or {}
        self._digest = str(definition.get("digest") or "")
        self._looked_up: Mapping[str, str] | None = definition.get("knowledge")

    def read_main(self, reference: str, stdin: BinaryIO | bytes | None) -> str:
        """Take the main text."""
        del stdin
        file = self._stored_file(reference)
        file.read = self._stored_text(file)
        self._understand(file, main=True)
        self._project_agents()
        return file.key

    def read_rest(self) -> None:
        """Take every other text that is reached."""
        while self._open:
            file = self._open.popleft()
            file.read = self._stored_text(file)
            self._understand(file, main=False)

    def _stored_file(self, key: str) -> _File:
        if key not in self._files:
            folder = Path() if key == STDIN else Path(key).parent
            self._files[key] = _File(key, self._names.get(key, key), folder)
        return self._files[key]

    def _stored_text(self, file: _File) -> FileRead:
        text = self._stored[file.key]
        return FileRead(text.encode("utf-8", "surrogatepass"), read_text(text, file.name, self._limits))

    def _resolve(self, file: _File, reference: str, at: Pointer, findings: Findings) -> str:
        key = self._known.get(file.key, {}).get(reference, "")
        if key not in self._stored:
            findings.add(at, f"the record of the run does not hold {shorten(reference, 80)!r}")
            return ""
        new = key not in self._files
        child = self._stored_file(key)
        if new:
            self._open.append(child)
        self._references.setdefault(file.key, {})[reference] = key
        return key

    def _constraints(self, file: _File, reference: str, at: Pointer, findings: Findings) -> tuple[str, Any]:
        key = self._known.get(file.key, {}).get(reference, "")
        if key not in self._stored:
            findings.add(at, f"the record of the run does not hold {shorten(reference, 80)!r}")
            return "", None
        self._texts[key] = self._stored[key]
        self._references.setdefault(file.key, {})[reference] = key
        is_xml = key.lower().endswith(".xml")
        if is_xml:
            self._read_includes(Path(key))
        return key, None if is_xml else read_text(self._stored[key], self._names.get(key, key), self._limits).data

    def _read_includes(self, main: Path) -> None:
        pending = [str(main)]
        while pending:
            key = pending.pop()
            for uri, target in self._known.get(key, {}).items():
                self._references.setdefault(key, {})[uri] = target
                if target in self._stored and target not in self._texts:
                    self._texts[target] = self._stored[target]
                    pending.append(target)

    def _read_knowledge(self, swarm: SwarmDefinition, findings: Findings) -> dict[str, str]:
        if swarm.knowledge and self._looked_up is None:
            findings.add(("knowledge",), "the record of the run does not hold these files")
        return dict(self._looked_up or {})

    def loaded(self, main: str) -> LoadedBundle:
        """The bundle, with the digest of the bytes that were read when the run began."""
        loaded = super().loaded(main)
        origin = {**loaded.bundle.origin, "digest": self._digest}
        return replace(loaded, bundle=replace(loaded.bundle, digest=self._digest, origin=origin))


def xml_text(content: bytes, name: str) -> str:
    """The text of an XML file, by its byte order mark, else by its own declaration, else as UTF-8.

    Raises:
        DefinitionError: It is no text in that encoding.
    """
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    declared = _XML_ENCODING.match(content)
    encoding = "utf-16" if marked else declared[1].decode() if declared else "utf-8"
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except LookupError:
        raise DefinitionError(
            [Problem((), f"the encoding {encoding!r} is not known", file=name, line=1, column=1)]
        ) from None
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        problem = Problem((), f"this is no text in {encoding}", file=name, line=line, column=column)
        raise DefinitionError([problem]) from None


def _drain(stdin: BinaryIO | bytes, limits: Limits) -> bytes:
    if isinstance(stdin, bytes):
        return stdin
    try:
        return stdin.read(limits.file_bytes + 1)
    except (OSError, ValueError):
        raise DefinitionError([Problem((), "stdin cannot be read", file="<stdin>")]) from None


def _calls(made: Routine | SwarmDefinition | None) -> Iterator[tuple[ChildRoutine, Pointer]]:
    """Every call of a routine, with its place; an agent's routine is one. Event agents are not calls."""
    for step in steps_of(made):
        if isinstance(step.action, ChildRoutine):
            yield step.action, (*step.pointer, "routine")
    if isinstance(made, SwarmDefinition):
        for agent in made.agents:
            if agent.reference is not None:
                yield ChildRoutine(agent.reference, agent.target, {}), (*agent.pointer, "routine")


class _Checker:
    """Checks one file against the others."""

    def __init__(
        self, file: _File, files: Mapping[str, _File], known_tools: frozenset[str] | None, findings: Findings
    ) -> None:
        self._file = file
        self._files = files
        self._tools = known_tools
        self._findings = findings

    def check(self) -> None:
        """Every step, agent and event agent of the file."""
        made = self._file.made
        assert made is not None
        for step in steps_of(made):
            self._action(step.action, step.pointer)
            if isinstance(step.action, ChildRoutine) and step.action.target:
                self._file.children.append(step.action.target)
        for agent in made.events:
            self._action(agent.action, agent.pointer, given={"event"})
        if isinstance(made, SwarmDefinition):
            self._agents(made)

    def _agents(self, swarm: SwarmDefinition) -> None:
        given = {*TASK_INPUTS, *swarm.inputs}
        for agent in swarm.agents:
            for n, tool in enumerate(agent.tools):
                self._tool(tool, (*agent.pointer, "tools", n))
            if agent.reference is not None:
                if agent.target:
                    self._file.children.append(agent.target)
                call = ChildRoutine(agent.reference, agent.target, {})
                hint = f"an agent's routine is given {', '.join(TASK_INPUTS)} and the swarm's inputs"
                self._call(call, agent.pointer, (*agent.pointer, "routine"), given, hint)

    def _action(self, action: object, at: Pointer, given: Collection[str] = ()) -> None:
        if isinstance(action, ToolCall):
            self._tool(action.tool, (*at, "tool"))
        elif isinstance(action, Prompt):
            for n, tool in enumerate(action.tools):
                self._tool(tool, (*at, "tools", n))
        elif isinstance(action, ChildRoutine):
            self._call(action, at, (*at, "routine"), given)

    def _tool(self, name: str, at: Pointer) -> None:
        if self._tools is None or name in self._tools or any(c in name for c in "*?["):
            return
        if name.startswith(_OVERLAID):
            return
        made = self._file.made
        servers = made.extras.get("mcp_servers", {}) if made is not None else {}
        if name.partition(".")[0] in servers:
            return
        hint = self._findings.suggest(name, self._tools) or "`vrooli tools list` shows the tools there are"
        self._findings.add(at, f"there is no tool {name!r}", hint, code="TOOL_NOT_FOUND")

    def _call(
        self, call: ChildRoutine, at: Pointer, reference: Pointer, given: Collection[str], hint: str = ""
    ) -> None:
        child = self._files.get(call.target)
        if child is None or not isinstance(child.made, Routine):
            return
        inputs = child.made.inputs
        key = self._parameters_key(at)
        for name, value in call.parameters.items():
            place = (*at, key, name)
            if name not in inputs:
                near = self._findings.suggest(name, inputs) or f"its inputs are {', '.join(inputs) or 'none'}"
                self._findings.add(place, f"{child.name} has no input {name!r}", near, at_key=True)
            elif not has_expression(value):
                self._value(inputs[name], value, place, child.name)
        missing = [
            name
            for name, declared in inputs.items()
            if declared.required and not declared.env and name not in call.parameters and name not in given
        ]
        if missing:
            names = ", ".join(repr(name) for name in missing)
            message = f"{child.name} needs the input{'s' if len(missing) > 1 else ''} {names}"
            self._findings.add(reference, message, hint or "give a value under `parameters`")

    def _value(self, declared: Input, value: Any, at: Pointer, name: str) -> None:
        if value is None and not declared.required:
            return
        if check_schema(declared.schema):
            return  # found already, where it stands
        for violation in compile_schema(declared.schema).check(value):
            self._findings.add((*at, *violation.path), f"the input {declared.name!r} of {name}: {violation}")

    def _parameters_key(self, at: Pointer) -> str:
        """``with`` where the file writes it so."""
        data: Any = self._file.read.document.data if self._file.read else None
        for part in at:
            try:
                data = data[part]
            except (LookupError, TypeError):
                return "parameters"
        return "with" if isinstance(data, dict) and "with" in data else "parameters"


def bundle_of_workflow(
    workflow: WorkflowDefinition, routine_id: str, inputs: Mapping[str, Any] | Collection[str] = ()
) -> Bundle:
    """The bundle of a workflow that was given as the seed's types; it has no file.

    Args:
        workflow: The graph.
        routine_id: The name it is shown under.
        inputs: The names of the parameters that are given; each is an input of any type.

    Raises:
        DefinitionError: The graph is wrong, as in a file.
    """
    steps = [
        {
            "id": step.id,
            "name": step.name,
            "tool": step.tool_name,
            "parameters": step.parameters,
            "strategy": step.strategy.value,
            **({} if step.timeout_ms is None else {"timeout": f"{step.timeout_ms}ms"}),
        }
        for step in workflow.steps
    ]
    data = {
        "steps": steps,
        "inputs": {name: {} for name in inputs},
        "dependencies": [{"from": edge.from_step, "to": edge.to_step} for edge in workflow.dependencies],
        "parallel_branches": [{"id": b.id, "steps": list(b.steps)} for b in workflow.parallel_branches],
    }
    routine = build_routine(data, key=routine_id)
    texts, origin = _text_of_workflow(data, routine_id)
    return Bundle(routine_id, {routine_id: replace(routine, name=routine_id)}, "", texts, origin)


def _text_of_workflow(data: Mapping[str, Any], name: str) -> tuple[dict[str, str], dict[str, Any]]:
    """A workflow as the text of a file (JSON is YAML), so that its run can be resumed; nothing when it has none."""
    try:
        text = json.dumps(data, allow_nan=False)
    except (TypeError, ValueError):
        return {}, {}
    return {name: text}, {"main": name, "digest": "", "names": {name: name}, "references": {}, "project": None}
