"""What may be wrong: with what is installed, with how it is configured, and with a catalog."""

import os
import re
import socket
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from filebroker.assets.formats import FORMATS
from filebroker.assets.resources import normalised
from filebroker.cataloging.catalog import Catalog
from filebroker.cataloging.run import Run
from filebroker.faces import installation
from filebroker.faces.broker import Broker
from filebroker.faces.symptoms import Symptom
from filebroker.finding import cache
from filebroker.ground import config, intake_checks, secrets
from filebroker.ground.errors import FilebrokerError, FilebrokerWarning, MissingHandler, StorageError
from filebroker.storing import staging

#: Variables of the environment that change what filebroker does.
_VARIABLES = re.compile(
    r"(FILEBROKER|INTAKE)_\w+|DATABROKER_TEST_MODE|AWS_\w+|(HTTPS?|NO|ALL)_PROXY|GOOGLE_APPLICATION_CREDENTIALS|"
    r"AZURE_STORAGE_\w+|PYTHONPATH|XDG_(CONFIG|CACHE|DATA|STATE)_HOME",
    re.IGNORECASE,
)
#: Their values tell nothing that must not be seen.
_OPEN = re.compile(
    r"(FILEBROKER|INTAKE|XDG)_\w+|DATABROKER_TEST_MODE|PYTHONPATH|AWS_(PROFILE|REGION|DEFAULT_REGION|CONFIG_FILE|"
    r"SHARED_CREDENTIALS_FILE|REQUEST_CHECKSUM_CALCULATION|RESPONSE_CHECKSUM_VALIDATION|EC2_METADATA_DISABLED)|"
    r"AWS_ENDPOINT_URL\w*|(HTTPS?|NO|ALL)_PROXY|GOOGLE_APPLICATION_CREDENTIALS",
    re.IGNORECASE,
)
#: The specs of so many of the newest runs are looked at.
_NEWEST = 100
#: A run that begins so much later than now tells that a clock is wrong.
_SKEW_SECONDS = 60.0


def doctor(catalog: Broker | Callable[[], Broker] | None = None) -> list[Symptom]:
    """Look for what may be wrong with this machine, and with a catalog.

    Passwords, keys and tokens are in nothing that is told.

    Parameters
    ----------
    catalog
        A broker, or what opens one: that it cannot be opened is then told as well.

    Returns
    -------
    list of Symptom
        What was found.  Something is wrong if the state of one of them is.

    Examples
    --------
    >>> from filebroker import Broker, doctor
    >>> [symptom.what for symptom in doctor(Broker.named("example")) if symptom.about == "catalog"]
    ['22 runs at ...example']
    """
    found = [*installation.symptoms(), *_environment(), *_configurations(), *_directories()]
    if catalog is not None:
        found += _catalog(catalog)
    hidden = secrets.values({})
    return [symptom._replace(what=secrets.scrub(symptom.what, hidden)) for symptom in found]


# -- this machine


def _environment() -> Iterator[Symptom]:
    """Tell which variables of the environment are set, and those that are harmless also to what."""
    for name in sorted(filter(_VARIABLES.fullmatch, os.environ)):
        value = os.environ[name]
        if not _OPEN.fullmatch(name) or secrets.is_secret(name) or secrets.has_credentials(value):
            value = "(not shown)"
        yield Symptom("good", f"environment {name}", value or "(empty)")


def _configurations() -> Iterator[Symptom]:
    """Tell which configurations were read, and what is wrong with them."""
    found, problems = config.survey()
    for name, item in sorted(found.items()):
        yield Symptom("good", f"configuration {name}", str(item.file))
    for problem in [*problems, *intake_checks.obstacles(), *intake_checks.misspelt()]:
        yield Symptom("wrong", "configuration", problem, "mend or remove that file")


def _directories() -> Iterator[Symptom]:
    """Tell where things are kept on this machine, and how large they are."""
    place = cache.root()
    if place is None:
        yield Symptom("note", "cache", f"nothing is kept, because {cache.VARIABLE} is empty: searches take longer")
    else:
        yield _place("cache", place)
    try:
        waiting = staging.waiting()
    except StorageError as error:
        yield Symptom("wrong", "staging", str(error))
        return
    for item in waiting:
        where = f"{item.pending.runs} runs wait to be uploaded to {item.url or 'a store that is not known any more'}"
        if item.conflicts:
            advice = "look at them; the store has other runs of their uids"
            yield Symptom("wrong", "staging", f"{len(item.conflicts)} runs in {item.root} cannot be uploaded", advice)
        here = item.host == socket.gethostname()
        advice = f"filebroker upload {item.url}" + ("" if here else f" --host {item.host}")
        yield Symptom("note", "staging", f"{where}, in {item.root}", advice)
    if not waiting:
        yield Symptom("good", "staging", "nothing waits to be uploaded")


def _place(about: str, place: str) -> Symptom:
    above = place
    while not os.path.exists(above) and above != os.path.dirname(above):
        above = os.path.dirname(above)
    if not os.access(above, os.W_OK):
        return Symptom("wrong", about, f"{place} cannot be written to", f"let {cache.VARIABLE} name another directory")
    return Symptom("good", about, f"{_size_of(place):,} bytes in {place}")


def _size_of(place: str) -> int:
    total = 0
    for parent, _, names in os.walk(place):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.exists(path):  # else it was removed just now
                total += os.lstat(path).st_size
    return total


# -- a catalog


def _catalog(given: Broker | Callable[[], Broker]) -> list[Symptom]:
    """Tell whether a catalog can be used, and what of it cannot."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", FilebrokerWarning)
        try:
            broker = given if isinstance(given, Broker) else given()
            found = [_reached(broker.catalog), *_clock(broker.catalog), *_handlers(broker)]
        except (FilebrokerError, OSError) as error:
            return [Symptom("wrong", "catalog", str(error))]
    problems = dict.fromkeys(str(item.message) for item in told if issubclass(item.category, FilebrokerWarning))
    return found + [Symptom("wrong", "catalog", problem, "filebroker verify tells more") for problem in problems]


def _reached(catalog: Catalog) -> Symptom:
    what = f"{len(catalog):,} runs at {catalog.folder.url}"
    if catalog.folder.local is not None:
        if os.access(catalog.folder.local, os.W_OK):
            return Symptom("good", "catalog", what)
        return Symptom("note", "catalog", f"{what}, for reading alone: the directory cannot be written to")
    store = catalog.folder.store.store
    if not store.is_writable:
        return Symptom("note", "catalog", f"{what}, for reading alone: nothing can be written there")
    try:
        is_honest = store.probe()
    except StorageError as error:
        return Symptom("note", "catalog", f"{what}, for reading alone: {error}")
    if not is_honest:
        advice = "let one machine alone record into it"
        return Symptom("note", "catalog", f"{what}; the store cannot tell who was first to write a file", advice)
    return Symptom("good", "catalog", what)


def _clock(catalog: Catalog) -> Iterator[Symptom]:
    """Tell of runs that began in the future."""
    newest = next(iter(catalog.documents()), None)
    ahead = 0.0 if newest is None else float(newest.start["time"]) - time.time()
    if ahead > _SKEW_SECONDS:
        what = f"the newest run begins {ahead:,.0f} seconds from now: this clock, or that of who recorded it, is wrong"
        yield Symptom("note", "clock", what, "compare the clocks of the machines")


def _handlers(broker: Broker) -> Iterator[Symptom]:
    """Tell which handlers of external files the newest runs need."""
    specs, mimetypes = _kinds(islice(broker.catalog, _NEWEST))
    for spec, runs in sorted(specs.items()):
        try:
            handler = broker.handlers.find(spec)
        except MissingHandler as error:
            yield Symptom("wrong", f"handler {spec}", f"is missing, and {runs} of the newest runs need it", str(error))
        else:
            yield Symptom("good", f"handler {spec}", f"{handler!r}, for {runs} of the newest runs")
    known = {kind.lower() for kind in (*FORMATS, *broker.handlers.specs())}
    for mimetype, runs in sorted(mimetypes.items()):
        if mimetype in known:
            yield Symptom("good", f"files {mimetype}", f"can be read, for {runs} of the newest runs")
        else:
            advice = f"db.reg.register_handler({mimetype!r}, Reader)"
            yield Symptom(
                "wrong", f"files {mimetype}", f"nothing reads them; {runs} of the newest runs have some", advice
            )


def _kinds(runs: Iterator[Run]) -> tuple[Counter[str], Counter[str]]:
    """Count the runs that have external files, by specs and by mimetypes."""
    specs: Counter[str] = Counter()
    mimetypes: Counter[str] = Counter()
    for run in runs:
        found = [(name, doc) for _, (name, doc) in run.files.line_items()]
        specs.update({_text(doc, "spec") for name, doc in found if name == "resource"} - {""})
        mimetypes.update({normalised(doc).mimetype for name, doc in found if name == "stream_resource"} - {""})
    return specs, mimetypes


def _text(doc: Mapping[str, Any], key: str) -> str:
    value = doc.get(key, "")
    return value if isinstance(value, str) else ""
