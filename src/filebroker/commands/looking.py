"""The verbs of the command ``filebroker`` to look at one run: ``show``, ``table`` and ``documents``."""

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from filebroker.commands.columns import duration
from filebroker.commands.output import add_formats, emit
from filebroker.commands.terminal import CATALOG, RUN, add_verb, at_least_one, count, open_catalog, say

if TYPE_CHECKING:
    import pandas as pd

    from filebroker.faces.header import Header

_SHOW = """\
Keys of the metadata are shown as they are searched for: sample.name is the key name of the mapping sample.
What the hints of the run describe is drawn, if the run has enough points.

examples:
  filebroker show example                    the newest run
  filebroker show example 20 --no-plot       the run with scan_id 20
  filebroker show example 0a00d92c --json | jq .start.sample
"""
_TABLE = """\
Times are UTC.  Of a run in progress the events so far are printed.

examples:
  filebroker table example -1
  filebroker table example 20 --stream baseline
  filebroker table example -1 --field motor --field det --csv > scan.csv
"""
_DOCUMENTS = """\
Each line is a JSON list of the document's name and the document, as it was recorded.

examples:
  filebroker documents example -1 | jq -c 'select(.[0] == "stop")[1]'
  filebroker documents example -1 --name event --stream primary | jq '.[1].data.det'
"""
_MISSING_STOP = {
    "live": "no stop document yet",
    "interrupted": "no stop document: its recording was cut short",
    "sealed": "no stop document",
}
_NAMES = (
    *("start", "descriptor", "event", "event_page", "resource", "datum", "datum_page"),
    *("stream_resource", "stream_datum", "stop"),
)
_TOLD_NAMES = f"{', '.join(_NAMES[:-1])} or {_NAMES[-1]}"
#: A value that is longer is cut; --json has all of it.
_LONGEST = 300


def add_verbs(verbs: Any) -> None:
    """Add the verbs to those of the command.

    Parameters
    ----------
    verbs
        What `argparse.ArgumentParser.add_subparsers` gives.
    """
    show = add_verb(verbs, "show", _show, "show a run: its metadata, its streams and their fields, and a plot", _SHOW)
    table = add_verb(verbs, "table", _table, "print a stream of a run as a table", _TABLE)
    documents = add_verb(verbs, "documents", _documents, "print the documents of a run as JSON", _DOCUMENTS)
    for verb in (show, table, documents):
        verb.add_argument("catalog", metavar="CATALOG", help=CATALOG)
        verb.add_argument("run", metavar="RUN", nargs="?", default="-1", help=f"{RUN} (default: -1)")
    show.add_argument("--no-plot", action="store_true", help="do not draw anything")
    show.add_argument("--json", action="store_true", help="one JSON object, for programs")
    table.add_argument("--stream", help="the stream (default: primary, or the only one)")
    table.add_argument("--field", action="append", help="this field alone; can be given several times")
    table.add_argument("-n", type=at_least_one, metavar="COUNT", help="the first events alone")
    add_formats(table)
    documents.add_argument("--stream", help="only descriptors and events of this stream")
    documents.add_argument("--name", choices=_NAMES, metavar="NAME", help=f"only documents of this name: {_TOLD_NAMES}")


# -- show


def _show(options: argparse.Namespace) -> None:
    from filebroker.ground import times
    from filebroker.ground.texts import printable

    header = open_catalog(options.catalog)[options.run]
    if options.json:
        print(json.dumps(_summary(header), default=str))
        return
    say(_title(header))
    _say_metadata("start", header.start)
    if header.stop:
        _say_metadata("stop", header.stop)
    else:
        say(f"\n{_MISSING_STOP[header.state]}")
    if annotations := header.annotations:
        say("\nannotations")
    for item in annotations:
        tags = " ".join(f"#{tag}" for tag in item["tags"])
        text = printable(f"{item['comment'] or ''} {tags}".strip())
        say(f"  {times.local(item['time'])}  {printable(str(item['author']))}: {text}")
    for stream in header.stream_names:
        _say_stream(header, stream)
    if not options.no_plot:
        from filebroker.commands.plots import draw

        draw(header)


def _title(header: "Header") -> str:
    """Say in a line which run it is, how it ended, and how long it took."""
    from filebroker.faces.listing import STATES

    start, stop = header.start, header.stop
    told = [f"scan_id {start.get('scan_id', '-')}", str(start.get("plan_name", "no plan"))]
    told.append(str(stop.get("exit_status", "-")) if stop else STATES[header.state])
    if (seconds := duration(start, stop)) is not None:
        told.append(f"{seconds:,.3f} s")
    return f"run {header.uid}: {', '.join(told)}"


def _summary(header: "Header") -> dict[str, Any]:
    """Give what is known of a run, for programs."""
    run = header.run
    return {
        "uid": header.uid,
        "state": header.state,
        "duration": duration(header.start, header.stop),
        "start": dict(header.start),
        "stop": dict(header.stop) if header.stop else None,
        "streams": [
            {"name": name, "events": len(run[name]), "fields": list(_fields(header, name))}
            for name in header.stream_names
        ],
        "annotations": header.annotations,
    }


def _say_metadata(title: str, document: Mapping[str, Any]) -> None:
    from filebroker.ground import times
    from filebroker.ground.texts import printable

    say(f"\n{title}")
    flat = dict(_flattened(document))
    width = min(30, max(map(len, flat), default=0))
    for key, value in flat.items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        if key == "time":
            text = f"{times.local(value)}  ({text})"
        text = printable(text)
        say(f"  {printable(key):<{width}}  {text if len(text) <= _LONGEST else text[:_LONGEST] + '...'}")


def _flattened(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give the values of a document by their dotted keys; lists and empty mappings as they are."""
    waiting = [("", iter(document.items()))]
    while waiting:
        prefix, items = waiting[-1]
        key, value = next(items, (None, None))
        if key is None:
            waiting.pop()
        elif isinstance(value, Mapping) and value:
            waiting.append((f"{prefix}{key}.", iter(value.items())))
        else:
            yield f"{prefix}{key}", value


def _say_stream(header: "Header", name: str) -> None:
    rows = list(_fields(header, name))
    columns = ("field", "dtype", "shape", "units", "external")
    told = [column for column in columns if any(row[column] not in (None, []) for row in rows)]
    say(f"\nstream {name}: {count(len(header.run[name]), 'event')}")
    emit(rows, told, argparse.Namespace(json=False, csv=False))


def _fields(header: "Header", stream: str) -> Iterator[dict[str, Any]]:
    """Give what the descriptors tell of the fields of a stream."""
    from filebroker.ground.documents import mapping_or_empty, stream_name

    told: dict[str, Any] = {}
    for descriptor in header.descriptors[::-1]:
        if stream_name(descriptor) == stream:
            told.update(descriptor["data_keys"])
    for field, key in told.items():
        known = mapping_or_empty(key)
        yield {"field": field, **{what: known.get(what) for what in ("dtype", "shape", "units", "external")}}


# -- table


def _table(options: argparse.Namespace) -> None:
    from filebroker.ground.errors import RunNotFound, UnknownField

    header = open_catalog(options.catalog)[options.run]
    names = header.stream_names
    stream = options.stream or (names[0] if len(names) == 1 else "primary")
    if stream not in names:
        raise RunNotFound(f"run {header.uid} has no stream {stream!r}; it has {names}")
    known = header.fields(stream)
    if unknown := [field for field in options.field or () if field not in known]:
        raise UnknownField(f"stream {stream!r} of run {header.uid} has no field {unknown[0]!r}; it has {sorted(known)}")
    frame = header.table(stream, fields=options.field)
    frame = frame if options.n is None else frame.head(options.n)
    if options.json or options.csv:
        emit(_rows(frame), ("seq_num", *frame.columns), options)
    else:
        say(frame.to_string())


def _rows(frame: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    """Give a row of a table after another, of values that can be written down."""
    columns = {name: [_plain(value) for value in frame[name]] for name in frame.columns}
    for place, number in enumerate(frame.index):
        yield {"seq_num": _plain(number), **{name: values[place] for name, values in columns.items()}}


def _plain(value: Any) -> Any:
    """Give a value of a table as JSON has it; a time in ISO 8601, in UTC."""
    if hasattr(value, "isoformat"):
        return f"{value.isoformat()}Z"
    return value.tolist() if hasattr(value, "tolist") else value


# -- documents


def _documents(options: argparse.Namespace) -> None:
    run = open_catalog(options.catalog).runs.lookup(options.run)
    if options.stream is not None:
        _ = run[options.stream]  # refuses one that the run has not
    of_stream = {doc["uid"] for doc in run.descriptors if options.stream in (None, doc.get("name", "primary"))}
    for name, document in run.documents():
        if options.name not in (None, name):
            continue
        if options.stream is not None and document.get("descriptor", document.get("uid")) not in of_stream:
            continue
        print(json.dumps([name, document]))
