"""Warnings that point at the line that called filebroker, however deep inside it they arise."""

import sys
import warnings


def warn(message: str, category: type[Warning]) -> None:
    """Warn whoever called filebroker."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("filebroker."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
