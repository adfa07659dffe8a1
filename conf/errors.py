"""The two kinds of problems that a command reports in one line: what is wrong, where, and the way out.

Their messages quote no value of a record. Whoever raises one derives from one of them; whoever reports them names
these two and no others.
"""

from __future__ import annotations


class UserMistake(ValueError):
    """Something that was asked for cannot be meant: an argument, a setting, a file. Exit code 2."""


class Refusal(RuntimeError):
    """What was asked for is in order, and the lake or its surroundings do not allow it now. Exit code 1."""
