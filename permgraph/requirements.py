"""Packages that only some jobs need: why one cannot be used, and what to install."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from permgraph.wording import reason


def unusable(package: str, error: BaseException, *, install: str = "", module: str = "") -> str:
    """Why `package` could not be imported: it or what it needs is absent, or one of them is broken; and what to do.

    `install` is what pip installs to get it, and `module` what is imported, by default its own name.
    """
    chain = list(_chain(error))
    absent = [e.name.partition(".")[0] for e in chain if isinstance(e, ModuleNotFoundError) and e.name]
    missing = next((name for name in absent[::-1] if _is_absent(name)), "")
    if missing == (module or package):
        return f"{package}, which is not installed: pip install {_quoted(install or package)}"
    if missing:
        return f"{package}, which needs {missing}, which is not installed: pip install {missing}"
    broken = _imported(chain[-1]) or module or package
    what = package if broken == (module or package) else f"{package}, and {broken}{_version(broken)}"
    return (
        f"{what}{', which' if what == package else ''} cannot be imported ({reason(chain[-1])}): install a build of it "
        f"that fits torch{_version('torch')} and the other packages here"
    )


def _quoted(name: str) -> str:
    return repr(name) if "[" in name else name


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from, the first cause last."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _is_absent(name: str) -> bool:
    try:
        return find_spec(name) is None
    except (ImportError, ValueError):  # it is half there
        return False


def _imported(error: BaseException) -> str:
    """The package, torch aside, that was being imported where the error was raised."""
    trace, found = error.__traceback__, ""
    while trace is not None:
        top = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if top not in ("", "torch", "permgraph", "importlib", "_frozen_importlib", *sys.stdlib_module_names):
            found = top
        trace = trace.tb_next
    return found


def _version(package: str) -> str:
    try:
        return f" {version(package)}"
    except PackageNotFoundError:
        return ""
