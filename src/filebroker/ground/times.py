"""Times of documents, which are seconds since 1970 in UTC, as people read them."""

from datetime import datetime


def local(time: object) -> str:
    """Give a time in the local zone, with its offset from UTC.

    A time that no calendar has is given as it stands.

    Examples
    --------
    >>> local(float("nan"))
    'nan'
    """
    try:
        return datetime.fromtimestamp(float(time)).astimezone().isoformat(" ", "seconds")  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, OSError):
        return repr(time)
