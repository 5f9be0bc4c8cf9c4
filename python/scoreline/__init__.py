"""scoreline from Python: tables scored by the program that serves, in a process beside this one.

>>> scored = scoreline.score(df, model="clv", models="models")

The program is the one that answers over HTTP, so a row gets the same numbers here. What it refuses is a
``ScorelineError`` with its own words; a row it cannot score keeps its place, with the reason in the column ``error``.
"""

from ._frames import score
from ._function import ArrowFunction, arrow_function
from ._program import ScorelineError, program
from ._serve import Server, serve

__all__ = ["ArrowFunction", "Bundle", "ScorelineError", "Server", "arrow_function", "pack", "program", "score", "serve"]


def __getattr__(name):
    # Packing needs numpy, scoring does not.
    if name in ("Bundle", "pack"):
        from . import _pack

        return getattr(_pack, name)
    if name == "__version__":
        from importlib import metadata

        try:
            return metadata.version("scoreline")
        except metadata.PackageNotFoundError:
            return "0"
    raise AttributeError(f"module `scoreline` has no `{name}`")
