"""How little is read to browse: counted, because counts are the same on every machine and times are not."""

import copy
import dataclasses
import json
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import intake
import pytest

import factories
from factories import T0
from filebroker import Broker
from filebroker.cataloging.recording import mark
from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.finding import listings
from filebroker.finding.ledger import Ledger
from filebroker.finding.manifest import Manifest
from filebroker.finding.records import Record
from filebroker.ground.filesystem import Folder
from filebroker.ground.stores import Store
from filebroker.intake import places
from filebroker.intake.catalogs import IntakeCatalog
from filebroker.intake.labels import label_of
from filebroker.storing import layout
from filebroker.storing.run_files import RunFiles
from servers import Proxy, new_bucket, options_for

#: Catalogs of so many runs; whatever is done has to take as much of both.
FEW, MANY = 300, 3_000
#: So many of the newest are recorded; of the others there is what the ledger says.
RECORDED = 200
#: So many runs are listed at the most where nobody said how many.
LISTED = 100


def uid_of(number: int) -> str:
    return f"{0xF0000000 + number:08x}-8c4b-4b8f-9d9c-1d2d64d3b2c4"


def keys_of(number: int) -> dict[str, Any]:
    return {"uid": uid_of(number), "time": T0 + number, "scan_id": number, "plan_name": "scan", "sample": "LaB6"}


def record_of(number: int) -> Record:
    start = keys_of(number)
    stop = {"uid": f"stop-{number}", "time": start["time"] + 1, "run_start": start["uid"], "exit_status": "success"}
    texts = json.dumps(start).encode(), json.dumps(stop).encode()
    return Record(layout.run_directory(start), 1, "sealed", *texts, ("primary/00000.parquet",))


def make_catalog(path: str, count: int) -> str:
    """Make a catalog of many runs, of which the newest are recorded and the others have empty directories."""
    mark(path)
    records = [record_of(number) for number in range(count - RECORDED)]
    Ledger(Folder(path)).publish(records, {})
    for item in records:
        os.makedirs(os.path.join(path, item.path))
    db = Broker(path, sync="never")
    for number in range(count - RECORDED, count):
        for name, doc in factories.run(3, **keys_of(number)):
            db.insert(name, doc)
    db.close()
    return path


# -- what is counted


@dataclasses.dataclass
class Taken:
    """What something took.

    Attributes
    ----------
    runs, files : int
        Runs that were opened, and those whose files were read for it.
    listed, rows : int
        Documents that were listed, and rows that were read from the manifest.
    reads : int
        Files and directories of the catalog that were opened.
    """

    runs: int = 0
    files: int = 0
    listed: int = 0
    rows: int = 0
    reads: int = 0


_watched: list[tuple[str, Taken]] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched and event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str):
        folder, taken = _watched[-1]
        taken.reads += arguments[0].startswith(folder)


sys.addaudithook(_watch)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    """Count from now on."""
    counts = Taken()

    def count_calls(kind: type[Any], name: str, what: str, size: Callable[[Any], int]) -> None:
        original = getattr(kind, name)

        def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
            found = original(self, *args, **kwargs)
            if threading.current_thread() is threading.main_thread():  # others look after the index
                setattr(counts, what, getattr(counts, what) + size(found))
            return found

        monkeypatch.setattr(kind, name, counting)

    listing = Runs.documents

    def counted_documents(self: Runs) -> Iterator[Any]:
        for item in listing(self):
            counts.listed += 1
            yield item

    monkeypatch.setattr(Runs, "documents", counted_documents)
    # Whether a small manifest is whole is looked at when it is first used, and a large one in the background.
    monkeypatch.setattr(Manifest, "check", lambda self: None)
    count_calls(Run, "__init__", "runs", lambda _: 1)
    count_calls(RunFiles, "__init__", "files", lambda _: 1)
    count_calls(Manifest, "order", "rows", lambda order: len(order.rows))
    for name in ("_entries", "at", "documents", "documents_at", "texts", "after", "revisions"):
        count_calls(Manifest, name, "rows", len)
    return counts


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, str]]:
    """Give the directories of the catalogs by their sizes; all of what is derived from them is there."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FILEBROKER_CACHE", str(cache))
        made = {count: make_catalog(str(tmp_path_factory.mktemp(f"of{count}")), count) for count in (FEW, MANY)}
        for path in made.values():
            db = Broker(path, read_only=True)
            assert len(db("LaB6")) == len(db())
            db.catalog.library.update_index()
            db.close()
        yield made


PARENT = """
sources:
  runs:
    driver: filebroker
    description: where the runs are
    args: {{url: {url!r}, storage_options: {options}}}
  found:
    driver: filebroker
    args: {{url: {url!r}, storage_options: {options}, search: {{sample: LaB6}}}}
"""


@dataclasses.dataclass
class Opened:
    """A catalog that nobody looked at yet, and a catalog file that names it."""

    url: str
    count: int
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        places._brokers.renew_locks()  # else the broker that others used may be shared
        self.catalog = self.open()

    def open(self) -> IntakeCatalog:
        """Open the catalog."""
        catalog: IntakeCatalog = intake.open_filebroker(self.url, storage_options=self.options)
        return catalog

    @cached_property
    def parent(self) -> Any:
        """The catalog file."""
        Path("parent.yml").write_text(PARENT.format(url=self.url, options=json.dumps(self.options)))
        return intake.open_catalog("parent.yml")

    def uid(self, age: int) -> str:
        """Give the uid of the n-th newest run."""
        return uid_of(self.count - age)

    def label(self, age: int) -> str:
        """Give the label of the n-th newest run."""
        return label_of(keys_of(self.count - age))


Deed = Callable[[Opened], Any]


def tokenized(opened: Opened) -> str:
    from dask.base import tokenize

    token: str = tokenize(opened.catalog)
    return token


def each_of(catalog: IntakeCatalog) -> list[Any]:
    """Go through a catalog as Intake's window does."""
    return [catalog[key] for key in catalog]


#: What looks at nothing at all: not even at whether there is a catalog.
BLIND: dict[str, Deed] = {
    "open_filebroker": lambda opened: opened.open(),
    "open_catalog": lambda opened: opened.parent,
    "parent.runs": lambda opened: opened.parent.runs,
    "parent[key]": lambda opened: opened.parent["found"],
    "list(parent)": lambda opened: list(opened.parent),
    "repr(parent)": lambda opened: repr(opened.parent),
    "dir(parent)": lambda opened: dir(opened.parent),
    "parent.walk()": lambda opened: opened.parent.walk(depth=5),
    "parent.search()": lambda opened: list(opened.parent.search("runs", depth=5)),
    "dir": lambda opened: dir(opened.catalog),
    "a missing attribute": lambda opened: hasattr(opened.catalog, "nothing"),
    "a missing private attribute": lambda opened: hasattr(opened.catalog, "_repr_mimebundle_"),
    "bool": lambda opened: bool(opened.catalog),
    "hash": lambda opened: hash(opened.catalog),
    "==": lambda opened: opened.catalog == opened.open(),
    "pickle": lambda opened: pickle.loads(pickle.dumps(opened.catalog)),
    "pickle of a search": lambda opened: pickle.loads(pickle.dumps(opened.catalog._again(search="LaB6"))),
    "tokenize": tokenized,
    "describe": lambda opened: opened.catalog.describe(),
    "discover": lambda opened: opened.catalog.discover(),
    "yaml": lambda opened: opened.catalog.yaml(),
    "serialize": lambda opened: opened.catalog.serialize(),
    "metadata": lambda opened: opened.catalog.metadata,
    "a copy": lambda opened: copy.copy(opened.catalog).name,
    "configure_new": lambda opened: opened.catalog.configure_new(limit=10),
    "a call": lambda opened: opened.catalog(),
    "walk": lambda opened: opened.catalog.walk(depth=5),
    "recent": lambda opened: opened.catalog.recent,
    "bool of entries": lambda opened: bool(opened.catalog._entries),
    "reload of what was not used": lambda opened: opened.catalog.reload(),
}

#: What looks at the catalog, with how many runs it may open, and how many it may list.
SEEING: dict[str, tuple[Deed, tuple[int, int]]] = {
    "repr": (lambda opened: repr(opened.catalog), (0, 0)),
    "html": (lambda opened: opened.catalog._repr_html_(), (0, 20)),
    "len": (lambda opened: len(opened.catalog), (0, 0)),
    "len of recent": (lambda opened: len(opened.catalog.recent), (0, 0)),
    "a search that is not asked": (lambda opened: opened.catalog.search("LaB6", plan_name="scan"), (0, 0)),
    "a missing label": (lambda opened: hasattr(opened.catalog, "s000001_scan_abcdef01"), (0, 0)),
    "a missing key": (lambda opened: "nothing" in opened.catalog, (0, 0)),
    "a missing number": (lambda opened: 10**9 in opened.catalog, (0, 0)),
    "dir of recent": (lambda opened: dir(opened.catalog.recent), (0, LISTED)),
    "key completions": (lambda opened: opened.catalog._ipython_key_completions_(), (0, LISTED)),
    "key completions of recent": (lambda opened: opened.catalog.recent._ipython_key_completions_(), (0, LISTED)),
    "in": (lambda opened: opened.uid(200) in opened.catalog, (1, 0)),
    "[-1]": (lambda opened: opened.catalog[-1], (1, 0)),
    "[-200]": (lambda opened: opened.catalog[-200], (1, 0)),
    "[scan_id]": (lambda opened: opened.catalog[opened.count - 200], (1, 0)),
    "[uid]": (lambda opened: opened.catalog[opened.uid(200)], (1, 0)),
    "[prefix]": (lambda opened: opened.catalog[opened.uid(200)[:8]], (1, 0)),
    "[label]": (lambda opened: opened.catalog[opened.label(200)], (1, 0)),
    ".label": (lambda opened: getattr(opened.catalog, opened.label(2)), (1, 0)),
    "recent[label]": (lambda opened: opened.catalog.recent[opened.label(200)], (1, 0)),
    "parent[key, -1]": (lambda opened: opened.parent["runs", -1], (1, 0)),
    "next(iter())": (lambda opened: next(iter(opened.catalog)), (0, 1)),
    "next(keys())": (lambda opened: next(opened.catalog.keys()), (0, 1)),
    "next(values())": (lambda opened: next(opened.catalog.values()), (0, 1)),
    "next(items())": (lambda opened: next(opened.catalog.items()), (0, 1)),
    "list of recent": (lambda opened: list(opened.catalog.recent), (0, LISTED)),
    "items of recent": (lambda opened: list(opened.catalog.recent.items()), (0, LISTED)),
    "list of entries": (lambda opened: list(iter(opened.catalog._entries)), (0, LISTED)),
    "each of recent": (lambda opened: each_of(opened.catalog.recent), (0, LISTED)),
    "items of entries": (lambda opened: list(opened.catalog._entries.items()), (0, LISTED)),
    "an entry": (lambda opened: opened.catalog._entries[opened.uid(2)], (1, 0)),
    "to_dataframe(limit=10)": (lambda opened: opened.catalog.to_dataframe(limit=10), (0, 10)),
    "repr of a run": (lambda opened: repr(opened.catalog[-1]), (1, 0)),
    "a stream": (lambda opened: opened.catalog[-1].primary, (1, 0)),
    "a table": (lambda opened: opened.catalog[-1].primary.read(), (1, 0)),
    "pickle of a run": (lambda opened: pickle.loads(pickle.dumps(opened.catalog[-1])), (1, 0)),
}


if int(intake.__version__.partition(".")[0]) >= 2:
    from filebroker.intake.take2 import FilebrokerCatalog

    def reader_of(opened: Opened) -> Any:
        return FilebrokerCatalog(opened.url, storage_options=opened.options).to_reader()

    BLIND |= {
        "a reader": reader_of,
        "repr of a reader": lambda opened: repr(reader_of(opened)),
        "dir of a reader": lambda opened: dir(reader_of(opened)),
        "token of a reader": lambda opened: reader_of(opened).token,
        "read()": lambda opened: reader_of(opened).read(),
    }


def taken_by(deed: Deed, opened: Opened, taken: Taken) -> Taken:
    """Do something, and give what it took."""
    for name in vars(taken):
        setattr(taken, name, 0)
    _watched.append((os.path.join(opened.url, ""), taken))
    try:
        deed(opened)
    finally:
        _watched.pop()
    return dataclasses.replace(taken)


@pytest.mark.parametrize("name", BLIND)
def test_nothing_is_looked_at_before_runs_are_asked_for(folders: dict[int, str], taken: Taken, name: str) -> None:
    assert taken_by(BLIND[name], Opened(folders[FEW], FEW), taken) == Taken()


@pytest.mark.parametrize("name", SEEING)
def test_little_is_looked_at_and_as_little_among_many_runs(folders: dict[int, str], taken: Taken, name: str) -> None:
    deed, (runs, listed) = SEEING[name]
    few, many = (taken_by(deed, Opened(folders[count], count), taken) for count in (FEW, MANY))
    assert few == many
    assert few.files <= few.runs <= runs, few
    assert few.listed <= listed, few
    # Of the manifest it reads rows in steps, first the order and then the documents; of the catalog the marker and the
    # directory of the ledger, before each question.
    assert few.rows <= 3 * (runs + listed) + 10, few
    assert few.reads <= 2 * runs + 9, few


@pytest.mark.parametrize(("scan_id", "label"), [(1, "s000001_scan_abcdef01"), (None, "snone_scan_abcdef01")])
def test_a_missing_label_opens_no_run_where_all_have_its_number(
    tmp_path: Path, taken: Taken, scan_id: int | None, label: str
) -> None:
    path = str(tmp_path / "same")
    db = Broker(path, sync="never")
    for number in range(120):
        for name, doc in factories.run(1, **keys_of(number) | {"scan_id": scan_id}):
            db.insert(name, doc)
    db.close()
    assert taken_by(lambda opened: hasattr(opened.catalog, label), Opened(path, 120), taken).runs == 0


# -- in a store


@pytest.fixture(scope="module")
def proxy(s3_endpoint: str) -> Iterator[Proxy]:
    with Proxy(s3_endpoint) as made:
        yield made


@pytest.fixture(scope="module")
def urls(folders: dict[int, str], s3_endpoint: str) -> dict[int, str]:
    """Give the URLs of copies of the catalogs; of runs there are only the newest."""
    made = {}
    for count, folder in folders.items():
        made[count] = f"s3://{new_bucket(s3_endpoint)}/runs"
        store = Store(made[count], options_for(s3_endpoint))
        newest = layout.run_directory(keys_of(count - 1))
        for path in (file for file in Path(folder).rglob("*") if file.is_file()):
            name = path.relative_to(folder).as_posix()
            if name == layout.MARKER or name.startswith((f"{layout.LEDGER}/", f"{newest}/")):
                store.write(name, path.read_bytes())
    return made


def requests_for(deed: Deed, opened: Opened, proxy: Proxy) -> int:
    proxy.clear()
    deed(opened)
    return len(proxy.requests)


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the ledger listed before each question, however soon after the one before."""
    monkeypatch.setattr(listings, "_FRESH_SECONDS", 0.0)


@pytest.mark.usefixtures("asking")
def test_a_store_is_asked_for_nothing_before_runs_are_asked_for(urls: dict[int, str], proxy: Proxy) -> None:
    options = options_for(proxy.url)
    assert {name: requests_for(deed, Opened(urls[FEW], FEW, options), proxy) for name, deed in BLIND.items()} == (
        dict.fromkeys(BLIND, 0)
    )


@pytest.mark.usefixtures("asking")
def test_a_store_is_asked_little_and_as_little_of_many_runs(urls: dict[int, str], proxy: Proxy) -> None:
    options = options_for(proxy.url)
    found: dict[int, dict[str, list[int]]] = {FEW: {}, MANY: {}}
    for count, costs in found.items():
        requests_for(SEEING["repr"][0], Opened(urls[count], count, options), proxy)  # builds what is kept of the ledger
        for name, (deed, _) in SEEING.items():
            opened = Opened(urls[count], count, options)
            costs[name] = [requests_for(deed, opened, proxy), requests_for(deed, opened, proxy)]
    assert found[FEW] == found[MANY]
    # The marker and the notes when it is opened, a listing before each question, and the pages of a table.
    assert {name: costs for name, costs in found[FEW].items() if costs[0] > 5 or costs[1] > 3} == {}


# -- at the prompt

#: What is typed before the tab key, and how many runs may be opened and listed for it.
TYPED = {
    "cat.": (0, 0),
    "cat.rec": (0, 0),
    'cat["': (0, LISTED),
    "cat['f00": (0, LISTED),
    "recent.": (0, LISTED),
    "recent.s00": (0, LISTED),
    'recent["s00': (0, LISTED),
    "cat.nothing.": (0, 0),
    "cat.search('LaB6').": (0, 0),
    "cat[-1].": (1, 0),
    "parent.": (0, 0),
    'parent["': (0, 0),
    "parent.runs.": (0, 0),
}


@pytest.fixture
def shell() -> Iterator[Any]:
    """Give IPython without its history."""
    pytest.importorskip("IPython")
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    quiet = Config({"HistoryManager": {"enabled": False}, "InteractiveShell": {"warn_venv": False}})
    yield InteractiveShell.instance(config=quiet)
    InteractiveShell.clear_instance()


def completions(shell: Any, typed: str) -> set[str]:
    """Press the tab key."""
    from IPython.core.completer import provisionalcompleter

    with provisionalcompleter():
        return {item.text for item in shell.Completer.completions(typed, len(typed))}


def pressing(shell: Any, typed: str) -> Deed:
    return lambda _: completions(shell, typed)


@pytest.mark.parametrize("jedi", [True, False])
def test_the_tab_key_opens_no_run_and_lists_no_more_than_the_newest(
    folders: dict[int, str], taken: Taken, shell: Any, jedi: bool
) -> None:
    shell.Completer.use_jedi = jedi
    for typed, (runs, listed) in TYPED.items():
        opened = Opened(folders[MANY], MANY)
        shell.user_ns |= {"cat": opened.catalog, "recent": opened.catalog.recent, "parent": opened.parent}
        cost = taken_by(pressing(shell, typed), opened, taken)
        assert cost.runs <= runs, typed
        assert cost.listed <= listed, typed
    offered = completions(shell, 'recent["s00')
    assert opened.label(1) in offered
    assert len(offered) == LISTED
