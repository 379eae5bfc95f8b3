"""One of many machines at one catalog in a store; each has a home of its own.

python apart.py record URL OPTIONS FIRST COUNT SESSION   record COUNT runs, and close the catalog after each SESSION
python apart.py compact URL OPTIONS                      merge the ledger again and again, until a line comes
python apart.py watch URL OPTIONS                        read everything again and again, until a line comes
python apart.py race URL OPTIONS UID SAMPLE              record a run of this uid

OPTIONS are the storage_options in JSON.  Each prints lines of JSON: ``"ready"`` at first, when a watcher has read
everything once; ``record`` and ``race`` then wait for a line.  ``record`` prints the number of each run whose stop is
acknowledged, ``watch`` what it saw and all that was wrong with it, ``race`` what it was told.
"""

import json
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from event_model import sanitize_doc

from filebroker.cataloging import recording
from filebroker.cataloging.catalog import Catalog
from filebroker.finding import compaction
from filebroker.finding.ledger import Ledger
from filebroker.ground.errors import FilebrokerError
from filebroker.ground.filesystem import Folder
from filebroker.storing import uploader, uploads
from filebroker.storing.recorder import Recorder
from filebroker.storing.run_files import RunFiles
from writers.replicated import documents, uid_of

ROWS, PAUSE_SECONDS = 30, 0.02


def say(item):
    print(json.dumps(item), flush=True)


def hurry():
    """Let everything happen often: runs have several segments, which go up at once, and the ledger is merged."""
    Recorder.__init__.__kwdefaults__["segment_documents"] = 12
    recording._BUSY_SECONDS = 0.0
    uploads.JOURNAL_SECONDS = uploads._JOURNAL_REST = 0.05
    uploader.PERIOD = 0.1
    compaction._MANY_LOGS_IN_STORE = 2


def record(url, options, first, count, session):
    say("ready")
    sys.stdin.readline()
    numbers = list(range(int(first), int(first) + int(count)))
    for begin in range(0, len(numbers), int(session)):
        catalog = Catalog(url, storage_options=json.loads(options), sync="never")
        for number in numbers[begin : begin + int(session)]:
            for name, doc in documents(number, ROWS):
                catalog.insert(name, doc)
                time.sleep(PAUSE_SECONDS)
            say(number)
        catalog.close()
    catalog.flush()


def until_line():
    """Give something that is set when a line comes."""
    came = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), came.set()), daemon=True).start()
    return came


def compact(url, options):
    say("ready")
    came, count = until_line(), 0
    ledger = Ledger(Folder(url, json.loads(options)))
    while not came.is_set():
        compaction.compact(ledger, in_store=True)
        count += 1
    say(count)


class Watch:
    """Somebody who reads all runs again and again, and remembers what there was."""

    def __init__(self, url, options):
        self.url, self.options = url, json.loads(options)
        self.sealed, self.lengths, self.wrong = set(), {}, []
        self.prefixes = self.rounds = 0

    def check(self, fact, *what):
        if not fact:
            self.wrong.append(" ".join(map(str, what)))

    def look(self, catalog):
        """Read each run that was not sealed the last time, and each tenth of the others."""
        seen = []
        for run in catalog:
            seen.append(run.uid)
            if run.uid not in self.sealed or hash((run.uid, self.rounds)) % 10 == 0:
                self.read(run)
        self.check(len(seen) == len(set(seen)), "doubled", [uid for uid in set(seen) if seen.count(uid) > 1])
        gone = self.lengths.keys() - set(seen)
        self.check(not gone, "gone", sorted(gone))
        self.rounds += 1

    def read(self, run):
        state = run.state
        found = [(name, sanitize_doc(doc)) for name, doc in run.documents()]
        expected = list(documents(run.start["scan_id"], ROWS))
        self.check(found == expected[: len(found)], run.uid, state, "is no prefix:", found[-2:])
        self.check(state in ("live", "sealed"), run.uid, "is", state)
        self.check(state != "sealed" or len(found) == len(expected), run.uid, "is sealed with", len(found))
        self.check(len(found) >= self.lengths.get(run.uid, 0), run.uid, "shrank from", self.lengths.get(run.uid))
        self.check(run.uid not in self.sealed or state == "sealed", run.uid, "was sealed, and is", state)
        self.check(not run.files.damage, run.uid, run.files.damage)
        self.prefixes += 0 < len(found) < len(expected)
        self.lengths[run.uid] = max(len(found), self.lengths.get(run.uid, 0))
        self.sealed |= {run.uid} if state == "sealed" else set()


def watch(url, options):
    """Read with one catalog that stays open, and with new ones."""
    watcher = Watch(url, options)
    stays = Catalog(url, storage_options=watcher.options, read_only=True)
    watcher.look(stays)
    say("ready")
    came = until_line()
    is_last = False
    while not is_last:
        is_last = came.is_set()
        catalog = Catalog(url, storage_options=watcher.options, read_only=True) if watcher.rounds % 3 == 2 else stays
        if is_last:
            time.sleep(1.0)  # what was listed a moment ago is not listed again
        try:
            watcher.look(catalog)
        except Exception:  # noqa: BLE001 - told to the test
            watcher.wrong.append(traceback.format_exc())
            break
    say({name: getattr(watcher, name) for name in ("rounds", "prefixes", "wrong")} | {"sealed": len(watcher.sealed)})


def race(url, options, uid, sample):
    catalog = Catalog(url, storage_options=json.loads(options), sync="never")
    say("ready")
    sys.stdin.readline()
    pairs = list(documents(int(uid.removeprefix("f")), ROWS))
    assert uid_of(int(uid.removeprefix("f"))) == uid
    pairs[0][1]["sample"] = int(sample)
    told = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            for name, doc in pairs:
                catalog.insert(name, doc)
            catalog.flush()
        except FilebrokerError as error:
            told.append(f"{type(error).__name__}: {error}")
        catalog.close()
    told += [f"{type(warning.message).__name__}: {warning.message}" for warning in caught]
    kept = Folder(f"{catalog._outbox.root}/_conflicts")
    runs = [RunFiles(kept, name) for name in kept.names()]
    whole = [texts(run.documents()) == texts(pairs) for run in runs]
    say({"told": told, "kept": whole, "waits": str(catalog._outbox.staging.pending())})


def texts(pairs):
    return [(name, json.dumps(sanitize_doc(doc), sort_keys=True)) for name, doc in pairs]


if __name__ == "__main__":
    hurry()
    {"record": record, "compact": compact, "watch": watch, "race": race}[sys.argv[1]](*sys.argv[2:])
