"""Bundles that were loaded and checked before, from the store: a file that has not changed is not read again as YAML.

Two rows of the store's ``plans`` belong together (spec engine.md (k)). *Where*: for the words that a file was asked by,
in one folder, its files with their sha256 and what its references led to. *What*: for the exact texts, the bundle and
the project as plain data, the plan as whole numbers, the warnings, and the digest of the tools that it was checked
against. Both keys hold the versions of vrooli, of Python and of vrooli's own files. What is in doubt is loaded again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vrooli_cli.errors import DefinitionError, Problem, StoreError
from vrooli_cli.loading.coding import PROBLEM, PROJECT, ROUTINE
from vrooli_cli.loading.files import find_routine, is_bare, main_file, read_content
from vrooli_cli.loading.home import PROJECT_FILE, Project, find_project
from vrooli_cli.loading.limits import Limits
from vrooli_cli.loading.loaded import LoadedBundle, Recalled
from vrooli_cli.model.routine import Bundle
from vrooli_cli.model.store import Busy, Store
from vrooli_cli.model.version import VROOLI

if TYPE_CHECKING:
    from vrooli_cli.loading.source import SourceMap

_FORMAT: Final = 1
_MOST_LETTERS: Final = 4 << 20  # of all files; a larger routine is read and checked again each time
_READ_BY: Final = ("language", "loading", "model", "tier2")  # the packages that give a file its meaning
_DOUBTS: Final = (
    *(DefinitionError, StoreError, Busy, zlib.error),
    *(OSError, ValueError, TypeError, LookupError, RuntimeError),
)


def recall(reference: str, store: Store) -> LoadedBundle | None:
    """What :func:`~vrooli_cli.loading.bundle.load_bundle` would give for a path or name; None: that has to be asked."""
    try:
        root = find_project(_folder_of(reference))
        where = _row(store, _where_key(reference, root))
        texts = _texts_of(where, reference, root) if where is not None else None
        if where is None or texts is None:
            return None
        return _bundle(_row(store, where["what"]), texts, where["origin"], reference)
    except _DOUBTS:
        return None


def recall_recorded(definition: Mapping[str, Any], store: Store) -> LoadedBundle | None:
    """The same for the definition of a run, as :func:`~vrooli_cli.loading.bundle.load_stored` takes it."""
    try:
        texts = definition["texts"]
        origin = {name: value for name, value in definition.items() if name != "texts"}
        return _bundle(_row(store, _what_key(texts, origin)), texts, origin, "")
    except _DOUBTS:
        return None


def remember(loaded: LoadedBundle, store: Store, checked: Recalled) -> None:
    """Keep what was loaded and planned; nothing is kept that does not come back the same."""
    bundle = loaded.bundle
    if not isinstance(bundle, Bundle) or not bundle.origin.get("main") or not loaded.sound:
        return
    if sum(map(len, bundle.texts.values())) > _MOST_LETTERS:
        return
    try:
        what = _what_key(bundle.texts, bundle.origin)
        project = replace(loaded.project, source=None, text="")
        packed = _packed(bundle, project, loaded.problems, checked)
        again = _bundle(_unpacked(packed), bundle.texts, bundle.origin, "")
        if again is None or (again.bundle, again.project) != (bundle, project):
            return
        store.plan_put(what, packed)
        if loaded.asked:
            _remember_where(loaded, store, what)
    except _DOUBTS:
        return


def _packed(bundle: Bundle, project: Project, problems: Iterable[Problem], checked: Recalled) -> bytes:
    data = {
        "routines": {key: ROUTINE.encode(routine) for key, routine in bundle.routines.items()},
        "project": PROJECT.encode(project),
        "problems": [PROBLEM.encode(one) for one in problems],
        "tools": checked.tools,
        "plans": checked.plans,
        "told": [PROBLEM.encode(one) for one in checked.problems],
    }
    return zlib.compress(json.dumps(data, allow_nan=False).encode(), 1)


def _remember_where(loaded: LoadedBundle, store: Store, what: str) -> None:
    root, bundle = loaded.project.root, loaded.bundle
    digests = {}
    for key, text in bundle.texts.items():
        content = read_content(Path(key), key, loaded.project.limits)
        if content.decode() != text:
            return
        digests[key] = hashlib.sha256(content).hexdigest()
    where = {"files": digests, "project": loaded.project.digest, "origin": dict(bundle.origin), "what": what}
    if _texts_of(where, loaded.asked, root) == bundle.texts:
        store.plan_put(_where_key(loaded.asked, root), zlib.compress(json.dumps(where).encode(), 1))


# -- keys --------------------------------------------------------------------------------------------------------------


def _key(*parts: Any) -> str:
    text = json.dumps([_FORMAT, VROOLI, sys.version_info[:2], _own_files(), *parts], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _where_key(reference: str, root: Path | None) -> str:
    return _key("where", reference, str(Path.cwd()), str(root))


def _what_key(texts: Mapping[str, str], origin: Mapping[str, Any]) -> str:
    return _key("what", dict(texts), dict(origin))


@cache
def _own_files() -> list[tuple[str, int, int]]:
    """Name, size and time of the files that give a routine its meaning: whoever works on vrooli gets no stale plan."""
    home = Path(__file__).parent.parent
    found = []
    for package in _READ_BY:
        with os.scandir(home / package) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    about = entry.stat()
                    found.append((f"{package}/{entry.name}", about.st_size, about.st_mtime_ns))
    return sorted(found)


# -- looking again -----------------------------------------------------------------------------------------------------


def _row(store: Store, key: str) -> Any:
    packed = store.plan_get(key)
    return None if packed is None else _unpacked(packed)


def _unpacked(packed: bytes) -> Any:
    return json.loads(zlib.decompress(packed))


def _texts_of(where: Mapping[str, Any], reference: str, root: Path | None) -> dict[str, str] | None:
    """The files' texts, when each is still what it was and every name still leads to the same file."""
    if where["project"] != _project_digest(root):
        return None
    origin, routines = where["origin"], Project(root=root).routines
    main = main_file(reference, routines)
    if main is None or str(main.resolve()) != origin["main"]:
        return None
    for key, references in origin["references"].items():
        for text, target in references.items():
            found = find_routine(text, Path(key).parent, routines)
            if found is None or str(found.resolve()) != target:
                return None
    texts = {}
    for key, digest in where["files"].items():
        content = read_content(Path(key), key, Limits())
        if hashlib.sha256(content).hexdigest() != digest:
            return None
        texts[key] = content.decode()
    return texts


def _project_digest(root: Path | None) -> str:
    """Of the bytes of ``vrooli.yaml``; empty when there is none."""
    file = root / PROJECT_FILE if root is not None else None
    return hashlib.sha256(file.read_bytes()).hexdigest() if file is not None and file.is_file() else ""


def _folder_of(reference: str) -> Path:
    return Path() if is_bare(reference) else Path(reference).parent


def _bundle(data: Any, texts: Mapping[str, str], origin: Mapping[str, Any], asked: str) -> LoadedBundle | None:
    if data is None:
        return None
    routines = {key: ROUTINE.decode(plain) for key, plain in data["routines"].items()}
    bundle = Bundle(origin["main"], routines, origin["digest"], texts, origin)
    problems = tuple(PROBLEM.decode(one) for one in data["problems"])
    told = tuple(PROBLEM.decode(one) for one in data["told"])
    sources = _Sources(texts, origin.get("names") or {})
    recalled = Recalled(data["tools"], data["plans"], told)
    return LoadedBundle(bundle, sources, problems, PROJECT.decode(data["project"]), asked, recalled)


class _Sources(Mapping[str, "SourceMap"]):
    """Where things stand in the files: each is read as YAML when a problem in it has to be shown."""

    def __init__(self, texts: Mapping[str, str], names: Mapping[str, str]) -> None:
        self._texts = texts
        self._names = names
        self._read: dict[str, SourceMap] = {}

    def __getitem__(self, key: str) -> SourceMap:
        if key not in self._read:
            from vrooli_cli.loading.text import read_text

            self._read[key] = read_text(self._texts[key], self._names.get(key, key)).source
        return self._read[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)
