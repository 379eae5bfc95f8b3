"""The verb ``filebroker tail``: follow a run while it is recorded."""

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from filebroker.commands.terminal import CATALOG, RUN, add_verb, count, open_catalog, say

_TAIL = """\
Events are printed as they come, until the run stops.  Of a run that has stopped, all are printed.  Ctrl-C ends it.

examples:
  filebroker tail beamtime                   the newest run
  filebroker tail beamtime --wait            the next run that begins
  filebroker tail beamtime --json | jq -c 'select(.[0] == "event")[1].data'
  while filebroker tail beamtime --wait; do :; done
"""


def add_verbs(verbs: Any) -> None:
    """Add the verb to those of the command.

    Parameters
    ----------
    verbs
        What `argparse.ArgumentParser.add_subparsers` gives.
    """
    tail = add_verb(verbs, "tail", _tail, "follow a run while it is recorded", _TAIL)
    tail.add_argument("catalog", metavar="CATALOG", help=CATALOG)
    tail.add_argument("run", metavar="RUN", nargs="?", help=f"{RUN} (default: -1)")
    tail.add_argument("--wait", action="store_true", help="wait for the next run that begins")
    tail.add_argument("--stream", help="only events of this stream")
    tail.add_argument(
        "--interval",
        type=_seconds,
        metavar="SECONDS",
        help="look for new documents so often (default: 0.2 on a disk, 2 in a store)",
    )
    tail.add_argument("--json", action="store_true", help="every document as a JSON list of its name and itself")


def _seconds(text: str) -> float:
    """Give a number of seconds.

    Raises
    ------
    argparse.ArgumentTypeError
        It is none.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _tail(options: argparse.Namespace) -> None:
    from filebroker.cataloging.following import follow, next_run
    from filebroker.ground.errors import InvalidOption

    if options.wait and options.run is not None:
        raise InvalidOption("--wait is for the next run, which has no number yet; leave the RUN out")
    runs = open_catalog(options.catalog).runs
    if options.wait:
        print("waiting for the next run", file=sys.stderr, flush=True)
        run = next_run(runs, interval=options.interval)
    else:
        run = runs.lookup(options.run or "-1")
    teller = _Teller(options.stream)
    for name, document in follow(run, interval=options.interval):
        if options.json:
            lines = [json.dumps([name, document])] if teller.is_wanted(name, document) else []
        else:
            lines = list(teller.lines(name, document))
        for line in lines:
            say(line)
        sys.stdout.flush()
    if options.stream is not None:
        _ = run[options.stream]  # refuses one that the run has not
    if run.stop is None:
        print("the run has no stop document: its recording was cut short", file=sys.stderr)


class _Teller:
    """Says what documents tell, in one line each.

    Parameters
    ----------
    stream
        Events of other streams are passed over, unless it is None.
    """

    def __init__(self, stream: str | None) -> None:
        self._stream = stream
        self._streams: dict[str, str] = {}

    def is_wanted(self, name: str, document: dict[str, Any]) -> bool:
        """Tell whether a document is to be printed; learn from descriptors."""
        from filebroker.ground.documents import stream_name

        if name == "descriptor":
            self._streams[document["uid"]] = stream_name(document)
        stream = self._streams.get(document["uid"] if name == "descriptor" else document.get("descriptor", ""))
        return stream is None or self._stream in (None, stream)

    def lines(self, name: str, document: dict[str, Any]) -> Iterator[str]:
        """Give the lines of a document: none of one that people need not see."""
        from filebroker.ground import times
        from filebroker.ground.documents import unpack_event_page

        if not self.is_wanted(name, document):
            return
        if name == "start":
            told = f"scan_id {document.get('scan_id', '-')}, {document.get('plan_name', 'no plan')}"
            yield f"run {document['uid']}: {told}, began {times.local(document['time'])}"
        elif name == "descriptor":
            yield f"stream {self._streams[document['uid']]}: {', '.join(document['data_keys'])}"
        elif name in ("event", "event_page"):
            for event in [document] if name == "event" else unpack_event_page(document):
                yield self._event(event)
        elif name == "stop":
            counts = document.get("num_events")
            told = ", ".join(f"{name} {number}" for name, number in counts.items()) if isinstance(counts, dict) else "-"
            reason = f", {document['reason']}" if document.get("reason") else ""
            yield f"stopped: {document.get('exit_status', '-')}{reason}, events: {told or 'none'}"

    def _event(self, event: dict[str, Any]) -> str:
        stream = self._streams.get(event["descriptor"], "?")
        data = " ".join(f"{key}={_value(value)}" for key, value in event["data"].items())
        return f"{stream:<8} {event['seq_num']:>5}  {_clock(event['time'])}  {data}"


def _clock(time: float) -> str:
    """Give the time of day, in the local zone."""
    try:
        return datetime.fromtimestamp(time).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except (TypeError, ValueError, OverflowError, OSError):
        return repr(time)


def _value(value: Any) -> str:
    """Give a value in few characters."""
    from filebroker.ground.texts import printable

    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"[{count(len(value), 'value')}]"
    return printable(str(value))[:40]
