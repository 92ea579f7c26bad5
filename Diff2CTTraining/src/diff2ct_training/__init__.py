"""Diff2CT training and evaluation: data preparation, training of every method, comparison tables, command line."""

from diff2ct import __version__

__all__ = ["__version__"]
