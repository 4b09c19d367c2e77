"""Keys of prepared scans: made of everything that decides what a scan becomes."""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2ch_luna.errors import LunaError
from p2ch_luna.io.scan_file import FORMAT_VERSION, Storage
from p2ch_luna.io.whole import files_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

RECIPE = ("p2ch_luna.lungs", "p2ch_luna.io.volumes", "p2ch_luna.io.metaimage")  # and what these import, but:
APART = (  # these do not touch a voxel
    "p2ch_luna.errors",
    "p2ch_luna.files",
    "p2ch_luna.io.file_locks",
    "p2ch_luna.io.find_scans",
)
PACKAGE = __name__.split(".")[0]
ROOT = Path(__file__).parents[1]  # of the package
_HASH = hashlib.blake2b
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def content_digest(path: Path) -> str:
    """A digest of the bytes of a scan: a file, with its data file if its header names one, or a folder.

    Names do not count. Raises LunaError where it cannot be read.
    """
    try:
        return _joined([_file_digest(part) for part in files_of(path)])
    except OSError as error:
        raise LunaError(f"{path}: cannot be read: {error.strerror}; expected a scan") from error


def digest_of(contents: Iterable[Buffer]) -> str:
    """The digest that `content_digest` finds of files that hold this, in the order of `files_of`."""
    return _joined([_HASH(content).digest() for content in contents])


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, _HASH).digest()


def _joined(digests: Iterable[bytes]) -> str:
    return _HASH(b"".join(digests), digest_size=20).hexdigest()


def scan_key(
    content: str,
    series_uid: str,
    spacing_mm: float,
    margin_mm: float,
    storage: Storage,
    recipe: str | None = None,
) -> str:
    """The key of `prepare(read_ct(path), spacing_mm, margin_mm)`; `content` is the scan's digest.

    recipe: `recipe_digest()`; whoever makes many keys works it out once, as all else here takes no time.
    """
    decisive = [
        FORMAT_VERSION,
        recipe_digest() if recipe is None else recipe,
        content,
        series_uid,
        float(spacing_mm),
        float(margin_mm),
        storage,
    ]
    return _digest(json.dumps(decisive))


def recipe_digest() -> str:
    """A digest of the code and the constants that decide what `prepare(read_ct(path))` returns.

    Code: all modules of `RECIPE` and of this package that they import. Constants: the values, now, of every
    name in capitals there. Comments, docstrings and formatting do not count.
    """
    code = _code_digests()
    constants = [
        f"{name}.{constant} = {_plain(value)}"
        for name in code
        for constant, value in sorted(vars(importlib.import_module(name)).items())
        if constant.isupper()
    ]
    return _digest(json.dumps([code, constants]))


@cache
def _code_digests() -> dict[str, str]:
    """Of each module by its name."""
    found: dict[str, str] = {}
    waiting = list(RECIPE)
    while waiting:
        name = waiting.pop()
        if name not in found and name not in APART:
            tree = ast.parse(_source_of(name).read_bytes())
            found[name] = code_digest(tree)
            waiting += _imported(tree)
    return dict(sorted(found.items()))


def code_digest(tree: ast.Module) -> str:
    """A digest of a module's code that its comments, docstrings and formatting do not change.

    Of the code written anew from the tree, not of the tree: Python's versions name its nodes differently.
    """
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return _digest(ast.unparse(tree))


def _imported(tree: ast.Module) -> Iterator[str]:
    """Modules of this package that a module imports, wherever it does so."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return (name for name in names if name.startswith(f"{PACKAGE}.") and _source_of(name).is_file())


def _source_of(name: str) -> Path:
    """Where the source of a module of this package is, if there is one of that name."""
    path = ROOT.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _plain(value: Any) -> str:
    """A text of a constant that is the same in every process."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.tolist()}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_plain(k)}: {_plain(v)}' for k, v in value.items())}}}"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_plain, value)))}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_plain, value))}]"
    return repr(value)


def _digest(text: str) -> str:
    return _HASH(text.encode(), digest_size=20).hexdigest()
