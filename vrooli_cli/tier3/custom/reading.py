"""What a tool file says, read off its syntax tree: nothing is imported (spec tools.md, ``validate`` and ``plan``).

Found are functions at the top of the module under ``@tool`` from ``vrooli_cli``, under whatever name it was imported.
Hints of the standard library become the same schema as in a run; any other one is any value until the file is imported.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Optional, Union

from vrooli_cli.errors import Problem
from vrooli_cli.loading.source import SourceMap
from vrooli_cli.model.values import lean
from vrooli_cli.tier3.custom.author import ToolMark
from vrooli_cli.tier3.custom.signature import UNSET, Argument, Signature, Unfit, argument_texts

_PACKAGE: Final = "vrooli_cli"
_TYPES: Final = {
    **{kind.__name__: kind for kind in (str, int, float, bool, list, dict, tuple, set, frozenset)},
    **dict.fromkeys(("Any", "object"), Any),
    "List": list,
    "Dict": dict,
    "Mapping": dict,
    "MutableMapping": dict,
    "Sequence": list,
    "Iterable": list,
    "Collection": list,
}
_FORMS: Final = {"Literal": Literal, "Optional": Optional, "Union": Union, "Annotated": Annotated}
_HOMES: Final = frozenset({"typing", "typing_extensions", "collections.abc", "__future__"})
_LOCAL_FILES: Final = 200  # modules that one tool file may bring into its digest


@lean()
class FoundTool:
    """A decorated function as it stands in its file."""

    name: str
    line: int
    mark: ToolMark
    signature: Signature
    doc: str


@lean()
class ReadFile:
    """A Python file, read and not imported.

    Attributes:
        name: As people are shown it.
        wanted: True when it may define tools: it mentions this package.
        digest: Of its text and of the project's modules that it imports.
    """

    path: Path
    name: str
    text: str
    tools: tuple[FoundTool, ...]
    problems: tuple[Problem, ...]
    wanted: bool
    digest: str


def read_python(path: Path, name: str) -> ReadFile:
    """What a tool file says; every way in which it may be broken is a problem with its line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        tree = ast.parse(text, filename=name)
    except SyntaxError as error:
        return _broken(path, name, at_line(name, error.lineno or 1, f"this is not Python: {error.msg}", path))
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return _broken(path, name, Problem((), f"the tool file cannot be read: {reason}", file=name))
    if _PACKAGE not in text:
        return ReadFile(path, name, text, (), (), wanted=False, digest="")
    reader = _Reader(tree, name, path)
    reader.read()
    digest = local_digest(path, text, tree)
    return ReadFile(path, name, text, tuple(reader.tools), tuple(reader.problems), wanted=True, digest=digest)


def _broken(path: Path, name: str, problem: Problem) -> ReadFile:
    return ReadFile(path, name, "", (), (problem,), wanted=True, digest="")


def at_line(name: str, line: int, message: str, path: Path | None = None, hint: str = "") -> Problem:
    """A problem at a line of a Python file, with its source."""
    text = ""
    if path is not None:
        with suppress(OSError, ValueError):
            text = path.read_text(encoding="utf-8-sig", errors="replace")
    lines = text.split("\n")
    if not text or not 1 <= line <= len(lines):
        return Problem((), message, hint, file=name, line=line, column=1)
    indent = len(lines[line - 1]) - len(lines[line - 1].lstrip())
    return SourceMap(name, text).problem(sum(len(one) + 1 for one in lines[: line - 1]) + indent, message, hint)


def local_digest(path: Path, text: str, tree: ast.AST) -> str:
    """Changes when the file, or a module beside it that it imports, changes."""
    parts, seen = [text.encode("utf-8", "replace")], {path}
    pending = list(_local_imports(path.parent, tree))
    while pending and len(seen) < _LOCAL_FILES:
        found = pending.pop(0)
        if found in seen:
            continue
        seen.add(found)
        with suppress(OSError, ValueError, SyntaxError, RecursionError):
            inner = found.read_text(encoding="utf-8-sig")
            parts.append(inner.encode("utf-8", "replace"))
            pending += _local_imports(found.parent, ast.parse(inner))
    return hashlib.sha256(b"\0".join(sorted(parts))).hexdigest()


def _local_imports(folder: Path, tree: ast.AST) -> Iterator[Path]:
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names = [base] if base else []
            names += [f"{base}.{alias.name}".lstrip(".") for alias in node.names]
        for name in names:
            place = folder.joinpath(*name.split("."))
            for candidate in (place.with_suffix(".py"), place / "__init__.py"):
                if candidate.is_file():
                    yield candidate


class _Reader:
    """Reads one module."""

    def __init__(self, tree: ast.Module, name: str, path: Path) -> None:
        self._tree = tree
        self._name = name
        self._path = path
        self._names: dict[str, str] = {}  # a name of the module → what of ours it is
        self._own: set[str] = set()  # names that the module binds itself
        self.tools: list[FoundTool] = []
        self.problems: list[Problem] = []

    def read(self) -> None:
        for node in self._tree.body:
            self._bind(node)
        for node in self._tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._function(node)

    def _bind(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                self._names[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                self._names[alias.asname or alias.name] = f"{node.module or ''}.{alias.name}"
        elif isinstance(node, ast.ClassDef):
            self._own.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            self._own |= {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}

    def _dotted(self, node: ast.expr) -> str:
        """``vrooli_cli.tool`` for whatever name stands there."""
        if isinstance(node, ast.Attribute):
            return f"{self._dotted(node.value)}.{node.attr}"
        return self._names.get(node.id, node.id) if isinstance(node, ast.Name) else ""

    def _is_ours(self, node: ast.expr, what: str) -> bool:
        dotted = self._dotted(node)
        return dotted.startswith(_PACKAGE) and dotted.rpartition(".")[2] == what

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            if not self._is_ours(called, "tool"):
                continue
            try:
                mark = self._mark(decorator) if isinstance(decorator, ast.Call) else ToolMark()
                self.tools.append(self._found(node, mark))
            except Unfit as error:
                self.problems.append(at_line(self._name, node.lineno, f"the tool {node.name!r}: {error}", self._path))

    def _mark(self, call: ast.Call) -> ToolMark:
        said: dict[str, Any] = {}
        for keyword in call.keywords:
            if keyword.arg not in ToolMark.__dataclass_fields__:
                raise Unfit(f"@tool has no {keyword.arg!r}; it has {', '.join(ToolMark.__dataclass_fields__)}")
            try:
                said[keyword.arg] = ast.literal_eval(keyword.value)
            except ValueError:
                if keyword.arg == "name":
                    raise Unfit("its name is computed, so it is known only with --import-tools") from None
        if "secrets" in said:
            wanted = said["secrets"]
            said["secrets"] = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        return ToolMark(**said)

    def _found(self, node: ast.FunctionDef | ast.AsyncFunctionDef, mark: ToolMark) -> FoundTool:
        doc = ast.get_docstring(node) or ""
        abouts = argument_texts(doc)
        spec = node.args
        if spec.posonlyargs or spec.vararg or spec.kwarg:
            raise Unfit("every parameter of a tool needs a name of its own: no *args, **kwargs, and no /")
        count = len(spec.args) - len(spec.defaults)
        defaults = [None] * count + list(spec.defaults) + list(spec.kw_defaults)
        arguments, context = [], None
        for one, default in zip([*spec.args, *spec.kwonlyargs], defaults, strict=True):
            if self._takes_context(one):
                context = one.arg
                continue
            hint, value = self._hint(one.annotation), self._default(default)
            if value is _UNKNOWN:  # it has one, which only the import shows
                hint, value = Any, None
            arguments.append(Argument(one.arg, hint, value, abouts.get(one.arg, "")))
        result = UNSET if node.returns is None else self._hint(node.returns, unknown=UNSET)
        line = min(decorator.lineno for decorator in node.decorator_list)  # where Python says that it begins
        return FoundTool(mark.name or node.name, line, mark, Signature(tuple(arguments), context, result), doc)

    def _takes_context(self, argument: ast.arg) -> bool:
        hint = _unquoted(argument.annotation)
        names = (one for one in ast.walk(hint) if isinstance(one, ast.Name | ast.Attribute)) if hint is not None else ()
        return any(self._is_ours(one, "ToolContext") for one in names)

    @staticmethod
    def _default(node: ast.expr | None) -> Any:
        if node is None:
            return UNSET
        try:
            return ast.literal_eval(node)
        except ValueError:
            return _UNKNOWN

    def _hint(self, node: ast.expr | None, unknown: Any = Any) -> Any:
        """The type that a hint means; ``unknown`` where only the import shows it."""
        node = _unquoted(node)
        if node is None:
            return unknown
        try:
            return self._type(node)
        except (_Foreign, TypeError, ValueError, SyntaxError):
            return unknown

    def _type(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and node.value is None:
            return None
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self._type(ast.parse(node.value, mode="eval").body)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return Union[self._type(node.left), self._type(node.right)]  # noqa: UP007 - made at run time
        if isinstance(node, ast.Subscript):
            return self._subscript(node)
        return self._plain_type(node)

    def _plain_type(self, node: ast.expr) -> Any:
        dotted = self._dotted(node)
        home, _, name = dotted.rpartition(".")
        if name in self._own or (home and home not in _HOMES) or name not in _TYPES:
            raise _Foreign
        return _TYPES[name]

    def _subscript(self, node: ast.Subscript) -> Any:
        home, _, name = self._dotted(node.value).rpartition(".")
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name in _FORMS and home in _HOMES:
            if name == "Literal":
                return Literal[tuple(ast.literal_eval(one) for one in inner)]
            if name == "Annotated":
                raise _Foreign  # what stands beside the type is code
            base: Any = _FORMS[name]
        else:
            base = self._plain_type(node.value)
        if base is Any:
            raise _Foreign
        types = tuple(... if _is_ellipsis(one) else self._type(one) for one in inner)
        return base[types if len(types) > 1 else types[0]]


class _Foreign(Exception):
    """A hint that is not known without importing the file."""


_UNKNOWN: Final = object()


def _unquoted(node: ast.expr | None) -> ast.expr | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        with suppress(SyntaxError):
            return ast.parse(node.value, mode="eval").body
        return None
    return node


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...
