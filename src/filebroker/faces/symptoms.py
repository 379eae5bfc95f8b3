"""What is told of something that was looked at."""

from typing import Literal, NamedTuple


class Symptom(NamedTuple):
    """What was found where something was looked at.

    Attributes
    ----------
    state : str
        ``good``, ``note`` (worth knowing) or ``wrong``.
    about : str
        What was looked at.
    what : str
        What was found.
    advice : str
        What to do, if anything.

    Examples
    --------
    >>> from filebroker import doctor
    >>> {symptom.about for symptom in doctor()} >= {"python", "filebroker", "packages"}
    True
    """

    state: Literal["good", "note", "wrong"]
    about: str
    what: str
    advice: str = ""
