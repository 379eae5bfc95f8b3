"""Hostile documents come through every door of Intake's as they were recorded, and credentials through none.

Intake renders what stands in its catalogs as templates, which may run programs and read the environment.  Here a run
is recorded for each hostile text, with that text in every place that takes one.
"""

import contextlib
import copy
import html
import itertools
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import intake
import pytest
import yaml
from intake.catalog import Catalog
from intake.catalog.local import LocalCatalogEntry, YAMLFileCatalog
from intake.catalog.utils import expand_templates

import factories as make
from filebroker import Broker, FilebrokerError
from filebroker.ground.errors import InvalidConfig, InvalidQuery, OfflineWarning
from filebroker.ground.intake_files import catalog_search_path, sources_of
from filebroker.ground.templates import escaped
from filebroker.intake.catalogs import IntakeCatalog
from filebroker.intake.labels import label_of
from filebroker.intake.runs import IntakeRun
from filebroker.intake.streams import IntakeStream
from servers import Proxy, WebServer, new_bucket, options_for, refusing_port

IS_2 = int(intake.__version__.split(".")[0]) >= 2
#: Commands of hostile documents make this file, in the working directory.
TRAP = "sprung"
#: What a variable of the environment holds that hostile documents ask for.
LEAKED = "leaked-out-of-the-environment"
HOSTILE = {
    "shell": "{{ shell(['touch', 'sprung']) }}",
    "shell as text": "{{ shell('./spring') }}",
    "client shell": "{{ client_shell(['touch', 'sprung']) }}",
    "bare shell": "shell(touch sprung)",
    "bare client shell": "client_shell(touch sprung)",
    "environment": "{{ env('LEAK') }}",
    "environment, unquoted": "{{env(LEAK)}}",
    "client environment": "{{ client_env('LEAK') }}",
    "bare environment": "env(LEAK)",
    "bare client environment": "client_env(LEAK)",
    "python format": "{env(LEAK)} {0.__class__} {data(x)} %(LEAK)s $LEAK ${LEAK} ~",
    "arithmetic": "{{ 7*7 }}",
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "catalog directory": "{{ CATALOG_DIR }}",
    "parameter": "{{ uid }} {{ name }} {{ url }}",
    "for": "{% for i in range(3) %}{{ i }}{% endfor %}",
    "unfinished for": "{% for %}",
    "include": "{% include '/etc/passwd' %}",
    "unfinished statement": "{%",
    "unfinished comment": "{#",
    "unfinished expression": "{{",
    "comment": "before {# between #} after",
    "raw": "{% raw %}{{ 7*7 }}{% endraw %}",
    "end of raw": "{% endraw %}{{ shell(['touch', 'sprung']) }}{% raw %}",
    "braces": "{{{ {{{{ }}}} }} %} #} {",
    "what escapes are made of": '{{ "{" }}{ shell("id") }} {{ "\\n" }}',
    "whitespace control": "  {%- if 1 -%}  x  {{- 7 -}}  {%- endif -%}  ",
    "a newline at the end": "text\n",
    "newlines at the end": "text\n\n\n",
    "a brace and a newline": "text {\n",
    "a brace and a return": "{\r",
    "returns": "one\rtwo\r\nthree\r\n",
    "markup": "<script>alert(1)</script><img src=x onerror='alert(1)'>\"'&lt;",
    "yaml tag": "!!python/object/apply:os.system ['touch sprung']",
    "yaml": "- a: [1, {b}]\n# c: &x *x | > % @ `\n--- \n...",
    "yaml null": "null",
    "yaml number": "0x10",
    "yaml date": "2026-11-23",
    "old template": "!template {{ 7*7 }}",
    "path": "../../etc/passwd",
    "control characters": "\x00\x01\x07\x08\x1b[31mred\x1b]0;title\x07\x7f\x85\x9b",
    "surrogates": "\ud800 \udfff",
    "directions": "\u202eright\u2066 \u200b\ufeff\u2028\u2029 \U0001f600",
    "dots": ".a..b.primary.",
    "regular expression": "(.*[+?^$\\",
    "operator": "$where",
    "dunder": "__class__",
    "label": "s000001_count_84d9ee44",
    "long": "{{ env('LEAK') }} " * 100,
}
NAMES = pytest.mark.parametrize("kind", HOSTILE)


class Recorded(NamedTuple):
    """What was recorded of a hostile text."""

    text: str
    uid: str
    start: dict[str, Any]
    stop: dict[str, Any]
    descriptor: dict[str, Any]
    key: str


def documents_of(text: str) -> tuple[Recorded, list[make.Pair]]:
    """Make a run that has a text wherever a document takes one."""
    # A column cannot be named by half a character.
    key = "det" if any("\ud800" <= letter <= "\udfff" for letter in text) else text
    begun = make.start(uid=text, scan_id=text, plan_name=text, **{f"{text} ": text})
    begun |= {"nested": {text: [text, {text: {text: text}}]}, "motors": [text], "sample": text}
    begun |= {"hints": {"dimensions": [[[key], text]], text: text}, "metadata": {text: text}, "url": text, "args": text}
    keys = {key: make.data_key("string", source=text, units=text, **{f"{text} ": text}), "x": make.data_key()}
    configured = {text: {"data": {key: text}, "timestamps": {key: 1.0}, "data_keys": {key: make.data_key("string")}}}
    descriptor = make.descriptor(begun, keys, name=text, configuration=configured, comment=text)
    descriptor |= {"object_keys": {text: [key], "x": ["x"]}, "hints": {text: {"fields": [key]}, "x": {"fields": ["x"]}}}
    events = [("event", make.event(descriptor, row, {key: text, "x": 0.5 * row})) for row in (1, 2)]
    ended = make.stop(begun, {text: 2}, reason=text, comment=text)
    documents = [("start", begun), ("descriptor", descriptor), *events, ("stop", ended)]
    return Recorded(text, text, begun, ended, descriptor, key), copy.deepcopy(documents)


RECORDED = {kind: documents_of(text) for kind, text in HOSTILE.items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("hostile") / "runs")
    with closing(Broker(path)) as broker:
        for _, documents in RECORDED.values():
            for pair in documents:
                broker.insert(*pair)
    return path


@pytest.fixture(autouse=True)
def trap(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Set what hostile documents spring, and look that none did."""
    script = own_home / "spring"
    script.write_text(f"#!/bin/sh\ntouch {own_home / TRAP}\n")
    script.chmod(0o755)
    monkeypatch.setenv("LEAK", LEAKED)
    yield own_home / TRAP
    assert not (own_home / TRAP).exists()


@pytest.fixture
def catalog(place: str) -> IntakeCatalog:
    return intake.open_filebroker(place)


def said(source: Any) -> list[str]:
    """Give all that a source says of itself where people look."""
    ways: list[Callable[[], Any]] = [source.yaml, source._yaml, source.describe, lambda: repr(source)]
    ways += [lambda: str(source), lambda: dir(source), lambda: source.name, lambda: source.description]
    ways += [source._repr_html_] if hasattr(source, "_repr_html_") else []
    entries = getattr(source, "_entries", None)
    if entries is not None:
        ways += [lambda: repr(list(entries.items())), lambda: [entry.describe() for entry in entries.values()]]
    return [str(way()) for way in ways]


def reopened(source: Any, file: Path) -> Any:
    """Write a source as a catalog file, and give what Intake finds there."""
    file.write_text(source.yaml(), encoding="utf-8")
    return only_one_in(file, source)


def only_one_in(file: Path, source: Any) -> Any:
    """Open a catalog file with one source, whose name Intake renders as well; give that."""
    found = intake.open_catalog(str(file))
    assert list(found) == [source.name if escaped(source.name) == source.name else source.driver]
    (name,) = found
    return found[name]


# ------------------------------------------------------------------------------------- templates


def test_the_trap_would_be_sprung(trap: Path) -> None:
    def entry(text: str) -> Any:
        return LocalCatalogEntry("x", "", IntakeCatalog, args={"url": text}, catalog_dir="", getshell=True)

    assert entry(HOSTILE["environment"])().url.endswith(LEAKED)
    entry(HOSTILE["shell"])
    for kind in ("shell", "shell as text"):
        with pytest.raises(InvalidConfig, match="names no catalog"):
            entry(HOSTILE[kind])()
        assert trap.exists()
        trap.unlink()


def _awkward() -> Iterator[str]:
    """Give texts of the characters that matter, all of a length."""
    yield from HOSTILE.values()
    for length, letters in [(1, '{}%#-\n\r \\"nx'), (2, '{}%#-\n\r \\"nx'), (3, '{%#-\n\r"'), (4, "{%\n\r")]:
        yield from map("".join, itertools.product(letters, repeat=length))


def test_what_is_escaped_comes_out_of_intakes_templates_as_it_went_in() -> None:
    texts = list(_awkward())
    options = {"client": False, "getenv": True, "getshell": True}
    context = {"CATALOG_DIR": "/elsewhere", "uid": "1", "name": "2", "url": "3"}
    found = expand_templates({"all": escaped(texts)}, context, **options)["all"]
    assert [pair for pair in zip(texts, found, strict=True) if pair[0] != pair[1]] == []


def test_what_is_escaped_is_read_by_broker_named_as_it_went_in() -> None:
    texts = list(_awkward())
    content = {"sources": {"x": {"driver": "filebroker", "args": escaped({"all": texts, "nested": [{"a": texts}]})}}}
    (source,) = sources_of(yaml.safe_load(yaml.safe_dump(content)), "/some/file.yml")
    assert source.config is not None
    found = source.config.content["all"]
    assert [pair for pair in zip(texts, found, strict=True) if pair[0] != pair[1]] == []
    assert source.config.content["nested"] == [{"a": texts}]


def test_other_values_than_texts_are_escaped_to_themselves() -> None:
    given = {"a": 1, "b": None, "c": [True, 2.5, {"{{ d }}": ["{{ e }}", ()]}]}
    found = expand_templates(escaped(given), {}, client=False, getenv=True, getshell=True)
    assert found == {"a": 1, "b": None, "c": [True, 2.5, {"{{ d }}": ["{{ e }}", []]}]}


# ------------------------------------------------------------------------------------- verbatim


@NAMES
def test_documents_are_given_back_verbatim(catalog: IntakeCatalog, kind: str) -> None:
    given, _ = RECORDED[kind]
    run = catalog[given.uid]
    for found in (
        run,
        catalog[given.uid,],
        catalog.get()[given.uid],
        intake.open_filebroker_run(catalog.url, given.uid),
    ):
        assert type(found) is IntakeRun
        assert found.uid == given.uid
        assert found.metadata == {"start": given.start, "stop": given.stop}
        assert found.discover()["metadata"] == {"start": given.start, "stop": given.stop}
        assert list(found) == [given.text]
    assert given.uid in catalog
    assert run.v1.start == given.start
    assert run.v2.metadata["stop"] == given.stop
    entry = catalog._entries[given.uid]
    for made in (entry(), entry.get(), pickle.loads(pickle.dumps(entry))()):
        assert made.metadata["start"] == given.start


@NAMES
def test_events_are_given_back_verbatim(catalog: IntakeCatalog, kind: str) -> None:
    given, _ = RECORDED[kind]
    run = catalog[given.uid]
    doors = [run[given.text], run[given.text,], run._entries[given.text](), dict(run._entries.items())[given.text]()]
    doors += [run.walk()[given.text](), catalog[given.uid, given.text], catalog[[given.uid, given.text]]]
    doors += [dict(run.items())[given.text], next(iter(run.values()))]
    for stream in doors:
        assert type(stream) is IntakeStream
        assert stream == doors[0]
    stream = doors[0]
    assert stream.metadata["start"] == given.start
    assert stream.metadata["stop"] == given.stop
    assert stream.metadata["descriptors"] == [given.descriptor]
    assert list(stream.discover()["dtype"]) == ["seq_num", "time", given.key, "x"]
    frames = [stream.read(), stream.read_partition(0), next(iter(stream.read_chunked()))]
    frames += [stream.to_dask().compute(scheduler="synchronous")]
    frames += [intake.open_filebroker_stream(catalog.url, given.uid, given.text, columns=[given.key]).read()]
    for frame in frames:
        assert frame[given.key].tolist() == [given.text, given.text]
    assert stream.to_xarray()[given.key].values.tolist() == [given.text, given.text]


@NAMES
def test_a_label_leads_to_its_run(catalog: IntakeCatalog, kind: str) -> None:
    given, _ = RECORDED[kind]
    label = label_of(given.start)
    assert label.isidentifier()
    assert label.isascii()
    assert len(label) < 100
    assert catalog[label].uid == getattr(catalog, label).uid == catalog.recent[label].uid == given.uid


def test_a_uid_that_is_the_beginning_of_another_hides_no_run(tmp_path: Path) -> None:
    uids = ["84d9ee44-8c4b-4b8f-9d9c-1d2d64d3b2c4", "84d9ee44", "84d9ee44-8c4b-4b8f-9d9c-1d2d64d3b2c4 "]
    with closing(Broker(str(tmp_path / "runs"))) as broker:
        for uid in uids:
            for pair in make.run(1, uid=uid):
                broker.insert(*pair)
    recent = intake.open_filebroker(str(tmp_path / "runs")).recent
    labels = list(recent)
    assert len(set(labels)) == 3
    assert {recent[label].uid for label in labels} == set(uids)
    assert {intake.open_filebroker(recent.url)[label].uid for label in labels} == set(uids)


def test_a_run_in_progress_gives_its_documents_verbatim(tmp_path: Path) -> None:
    with closing(Broker(str(tmp_path / "runs"))) as broker:
        for kind in ("shell", "yaml", "control characters", "returns"):
            given, documents = RECORDED[kind]
            for pair in documents[:3]:
                broker.insert(*pair)
            run = intake.open_filebroker(str(tmp_path / "runs"))[given.uid]
            stream = run[given.text]
            assert run.metadata == {"start": given.start, "stop": None}
            assert stream.metadata["descriptors"] == [given.descriptor]
            for frame in (stream.read(), stream.to_dask().compute(scheduler="synchronous")):
                assert frame[given.key].tolist() == [given.text]
            assert reopened(run, tmp_path / "run.yml").metadata["start"] == given.start
            broker.insert(*documents[3])
            assert stream.read()[given.key].tolist() == [given.text] * 2


def test_all_of_them_are_listed(catalog: IntakeCatalog) -> None:
    texts = [given.text for given, _ in RECORDED.values()]
    encoded = [text.encode(errors="backslashreplace").decode() for text in texts]  # a table's strings are UTF-8
    assert sorted(catalog) == sorted(texts)
    assert [run.uid for run in catalog.values()] == list(catalog)
    assert sorted(catalog.recent) == sorted({label_of(given.start) for given, _ in RECORDED.values()})
    assert sorted(catalog.to_dataframe()["plan_name"]) == sorted(encoded)
    assert sorted(catalog.read()["sample"]) == sorted(encoded)
    assert set(catalog._ipython_key_completions_()) == set(texts)
    assert [entry().uid for entry in catalog._entries.values()] == list(catalog)
    described = [entry.describe() for _, entry in catalog._entries.items()]
    assert [item["args"]["run"] for item in described] == list(catalog)


@NAMES
def test_what_is_shown_is_harmless(catalog: IntakeCatalog, kind: str) -> None:
    given, _ = RECORDED[kind]
    run = catalog[given.uid]
    found = catalog.search(plan_name=given.text)
    for source in (catalog, found, found.recent, run, run[given.text]):
        texts = said(source)
        assert not [text for text in texts if LEAKED in text]
        shown = repr(source)
        assert shown == "".join(letter for letter in shown if letter.isprintable() or letter == "\n")
        assert len(shown) < 2000 + 2 * len(given.text)
    markup = catalog._repr_html_() + found._repr_html_() + found.recent._repr_html_()
    assert "<script" not in markup
    assert "<img" not in markup
    assert html.escape(given.text[:8]) in markup or not given.text.isprintable()


@NAMES
def test_plots_of_hostile_hints_are_harmless(catalog: IntakeCatalog, kind: str) -> None:
    given, _ = RECORDED[kind]
    stream = catalog[given.uid, given.text]
    assert stream.plots == dir(stream.plot) == list(stream.metadata["plots"])
    assert all(name.isidentifier() for name in stream.plots)
    assert all(item["y"] == ["x"] for item in stream.metadata["plots"].values())
    assert repr(stream.plot) == f"<plots {', '.join(stream.plots)}>"


@NAMES
def test_hostile_searches_find_what_has_the_text(catalog: IntakeCatalog, kind: str) -> None:
    given, _ = RECORDED[kind]
    queries: list[Any] = [{"plan_name": given.text}, {"sample": given.text}, {"nested.list": given.text}]
    assert list(catalog.search(plan_name=given.text)) == [given.uid]
    assert list(catalog.search({"plan_name": given.text})) == [given.uid]
    assert list(catalog.search(sample={"$in": [given.text]}).search(motors=given.text)) == [given.uid]
    for query in [*queries, given.text, {given.text: given.text}, {"$or": [{given.text: 1}, {"uid": given.text}]}]:
        try:
            found = catalog.search(query)
            assert len(found) == len(list(found))
        except InvalidQuery:
            continue
        assert type(found) is IntakeCatalog
    for keyword in ("since", "until", "data_key"):
        with contextlib.suppress(FilebrokerError):
            len(catalog.search(**{keyword: given.text}))


@NAMES
def test_keys_that_are_not_there_are_refused_in_their_own_words(catalog: IntakeCatalog, kind: str) -> None:
    text = HOSTILE[kind] + "missing"
    for ask in (lambda: catalog[text], lambda: catalog[text, "primary"], lambda: catalog[-1][text]):
        with pytest.raises(KeyError) as caught:
            ask()
        assert isinstance(caught.value, FilebrokerError)
        assert len(str(caught.value)) < 2000
    assert text not in catalog
    assert not hasattr(catalog, text.replace("\ud800", "").replace("\udfff", ""))


# ------------------------------------------------------------------------------------- copies


def sources_with(catalog: IntakeCatalog, given: Recorded) -> list[Any]:
    """Give sources that have a text in their arguments."""
    found = catalog.search({"plan_name": given.text, "sample": {"$in": [given.text]}})
    return [found, catalog[given.uid], catalog[given.uid, given.text], catalog.search("x", operator=given.text).recent]


@NAMES
def test_pickles_are_the_same(catalog: IntakeCatalog, kind: str) -> None:
    given, _ = RECORDED[kind]
    for source in sources_with(catalog, given):
        again = pickle.loads(pickle.dumps(source))
        assert again == source
        assert hash(again) == hash(source)
        assert again.name == source.name
    assert pickle.loads(pickle.dumps(catalog[given.uid])).metadata["start"] == given.start


@NAMES
def test_yaml_and_back_is_the_same(catalog: IntakeCatalog, kind: str, tmp_path: Path) -> None:
    given, _ = RECORDED[kind]
    for source in sources_with(catalog, given):
        again = reopened(source, tmp_path / "one.yml")
        assert again == source
        assert type(again) is type(source)
        assert (again.description or "") == (source.description or "")
        assert reopened(again, tmp_path / "two.yml") == source
    found, run, stream, _ = (reopened(source, tmp_path / "3.yml") for source in sources_with(catalog, given))
    assert list(found) == [given.uid]
    assert run.metadata["start"] == given.start
    assert stream.read()[given.key].tolist() == [given.text] * 2


@NAMES
def test_saved_and_opened_again_is_the_same(catalog: IntakeCatalog, kind: str, tmp_path: Path) -> None:
    given, _ = RECORDED[kind]
    found, run, _, recent = sources_with(catalog, given)
    for source in (found, run, recent):
        source.save(str(tmp_path / "saved.yml"))
        assert only_one_in(tmp_path / "saved.yml", source) == source
    opened = intake.open_catalog(str(tmp_path / "saved.yml"))
    assert list(opened.walk(depth=5)) == ["filebroker"]
    assert list(opened.search("filebroker")) == ["filebroker"]


@NAMES
def test_parents_give_and_write_it_verbatim(catalog: IntakeCatalog, kind: str, tmp_path: Path) -> None:
    given, _ = RECORDED[kind]
    found, run, stream, _ = sources_with(catalog, given)
    parent = Catalog.from_dict({"found": found, "run": run, "stream": stream}, name="parent")
    assert parent["run"].metadata["start"] == given.start
    assert parent.stream.read()[given.key].tolist() == [given.text] * 2
    parent.save(str(tmp_path / "parent.yml"))
    (tmp_path / "added.yml").write_text("sources: {}\n")
    added = YAMLFileCatalog(str(tmp_path / "added.yml"), autoreload=False)
    for name, source in (("found", found), ("run", run), ("stream", stream)):
        added = YAMLFileCatalog(str(tmp_path / "added.yml")).add(source, name)
    above = {"below": {"driver": "yaml_file_cat", "args": {"path": "{{ CATALOG_DIR }}/added.yml"}}}
    (tmp_path / "above.yml").write_text(yaml.safe_dump({"sources": above}))
    nested = intake.open_catalog(str(tmp_path / "above.yml"))
    for again in (intake.open_catalog(str(tmp_path / "parent.yml")), added, nested.below):
        assert (again["found"], again["run"], again["stream"]) == (found, run, stream)
        assert again.run.metadata["start"] == given.start
        assert again["run", given.text].read()[given.key].tolist() == [given.text] * 2
    assert nested["below", "found", given.uid].metadata["start"] == given.start


@NAMES
def test_a_broker_reads_the_same_of_the_same_file(catalog: IntakeCatalog, kind: str, own_home: Path) -> None:
    given, _ = RECORDED[kind]
    found = catalog.search({"plan_name": given.text, "sample": {"$in": [given.text]}})
    directory = Path(catalog_search_path()[0])
    directory.mkdir(parents=True)
    found.save(str(directory / "one.yml"))
    with closing(Broker.named("filebroker")) as broker:
        assert [header.start for header in broker()] == [given.start]


@pytest.mark.skipif(not IS_2, reason="Take2 came with Intake 2")
@NAMES
def test_take2_gives_and_writes_it_verbatim(place: str, kind: str, tmp_path: Path) -> None:
    from intake.readers.entry import Catalog as Take2Catalog

    from filebroker.intake.take2 import FilebrokerCatalog

    given, _ = RECORDED[kind]
    reader = FilebrokerCatalog(place).to_reader()
    assert reader.read()[given.uid].metadata["start"] == given.start
    whole = Take2Catalog()
    whole["runs"] = reader
    whole.to_yaml_file(str(tmp_path / "take2.yml"))
    again = Take2Catalog.from_yaml_file(str(tmp_path / "take2.yml"))
    assert again["runs"].read()[given.uid].metadata["start"] == given.start
    assert again["runs"].read() == intake.open_filebroker(place)


# ------------------------------------------------------------------------------------- credentials

#: What is in all credentials.
CANARY = "5ecre7"
#: Reads what is pickled, where nothing else is known.
CHILD = """
import pickle, sys
for source in pickle.load(sys.stdin.buffer):
    print(type(source).__name__, len(source.read()) if source.container == "dataframe" else len(list(source)))
"""


class Access(NamedTuple):
    """A catalog in a bucket, and what opens it."""

    url: str
    options: dict[str, Any]
    uid: str


@pytest.fixture(scope="module")
def bucket(s3_endpoint: str) -> tuple[str, str]:
    """Record a run into a bucket; give the URL of its catalog, and its uid."""
    url = f"s3://{new_bucket(s3_endpoint)}/runs"
    with closing(Broker(url, storage_options=options_for(s3_endpoint))) as broker:
        for pair in (documents := make.run(3, plan_name="scan")):
            broker.insert(*pair)
        broker.flush()
    return url, documents[0][1]["uid"]


def _literally(monkeypatch: pytest.MonkeyPatch, home: Path) -> dict[str, Any]:
    nested = {"client_kwargs": {"region_name": "us-east-1"}, "config_kwargs": {"user_agent_extra": f"agent-{CANARY}"}}
    return {"key": f"key-{CANARY}", "secret": f"secret-{CANARY}", "token": f"token-{CANARY}", **nested}


def _by_name(monkeypatch: pytest.MonkeyPatch, home: Path) -> dict[str, Any]:
    for name in ("key", "secret", "token", "agent"):
        monkeypatch.setenv(f"HALL_{name.upper()}", f"{name}-{CANARY}")
    named = {name: {"env": f"HALL_{name.upper()}"} for name in ("key", "secret", "token")}
    return {**named, "config_kwargs": {"user_agent_extra": {"env": "HALL_AGENT"}}}


def _by_environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> dict[str, Any]:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.setenv(f"AWS_{name}", f"{name}-{CANARY}")
    return {}


def _by_profile(monkeypatch: pytest.MonkeyPatch, home: Path) -> dict[str, Any]:
    (home / ".aws").mkdir()
    lines = ["[hall]", f"aws_access_key_id = key-{CANARY}", f"aws_secret_access_key = secret-{CANARY}"]
    (home / ".aws" / "credentials").write_text("\n".join(lines))
    return {"profile": "hall"}


WAYS = {"literally": _literally, "by name": _by_name, "by environment": _by_environment, "by profile": _by_profile}


@pytest.fixture(params=WAYS)
def access(
    request: pytest.FixtureRequest,
    bucket: tuple[str, str],
    s3_endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    own_home: Path,
) -> Access:
    """Give what opens the catalog in the bucket, with credentials in each of the ways that there are."""
    url, uid = bucket
    return Access(url, WAYS[request.param](monkeypatch, own_home) | {"endpoint_url": s3_endpoint}, uid)


@pytest.fixture(autouse=True)
def nothing_said(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Look that no credential was printed or logged."""
    yield
    printed = capfd.readouterr()
    assert CANARY not in printed.out + printed.err
    assert not [record.name for record in caplog.records if CANARY in record.getMessage()]


def opened(access: Access) -> list[Any]:
    """Give a source of each kind."""
    catalog = intake.open_filebroker(access.url, storage_options=access.options)
    run = catalog[access.uid]
    given = {"storage_options": access.options}
    by_url = intake.open_filebroker_run(access.url, access.uid, **given)
    stream = intake.open_filebroker_stream(access.url, access.uid, "primary", **given)
    return [catalog, catalog.search(plan_name="scan"), catalog.recent, run, run.primary, by_url, stream]


def test_no_credential_is_shown(access: Access) -> None:
    for source in opened(access):
        assert not [text for text in said(source) if CANARY in text]
        assert CANARY not in str(source.discover())
        assert CANARY not in repr(source._place)
        for name in ("_entries", "metadata", "v1", "v2", "cat"):
            assert CANARY not in repr(getattr(source, name, None))
        for made in vars(source).values():
            assert made is source.storage_options or CANARY not in repr(made)


def test_no_credential_is_written(access: Access, tmp_path: Path) -> None:
    sources = opened(access)
    parent = Catalog.from_dict({f"s{number}": source for number, source in enumerate(sources)}, name="parent")
    texts = [parent.serialize(), parent.yaml(), repr(parent), str(parent._yaml())]
    texts += [str(item.describe()) for item in parent.walk(depth=5).values()]
    parent.save(str(tmp_path / "parent.yml"))
    for number, source in enumerate(sources):
        if hasattr(source, "save"):
            source.save(str(tmp_path / f"{number}.yml"))
            texts.append(source.serialize())
        (tmp_path / f"added{number}.yml").write_text("sources: {}\n")
        YAMLFileCatalog(str(tmp_path / f"added{number}.yml")).add(source, "x")
    texts += [file.read_text() for file in tmp_path.iterdir()]
    assert len(texts) > 20
    assert not [text for text in texts if CANARY in text]
    assert all(access.url in text for text in texts[-len(sources) :])


@pytest.mark.parametrize("access", ["literally", "by name"], indirect=True)
def test_pickles_read_in_another_process(access: Access) -> None:
    sources = opened(access)
    pickled = pickle.dumps(sources)
    assert (CANARY.encode() in pickled) == (access.options.get("key") == f"key-{CANARY}")
    if isinstance(access.options.get("key"), dict):
        assert b"HALL_SECRET" in pickled
    child = subprocess.run([sys.executable, "-c", CHILD], input=pickled, capture_output=True, check=False, timeout=60)
    assert child.stderr.decode() == ""
    expected = [*["IntakeCatalog 1"] * 3, *["IntakeRun 1", "IntakeStream 3"] * 2]
    assert child.stdout.decode().splitlines() == expected


def test_no_credential_is_in_what_dask_is_told(access: Access) -> None:
    from dask.base import tokenize

    *catalogs, _, stream = opened(access)
    frame = stream.to_dask()
    told = [repr(frame), str(frame), frame._name, str(frame.dask.keys()), str(frame.expr), repr(frame.expr)]
    told += [repr(list(frame.dask.values())), str(frame.expr.tree_repr()), frame._repr_html_()]
    told += [str(source.__dask_tokenize__()) for source in (*catalogs, stream)] + [tokenize(catalogs), tokenize(stream)]
    assert not [text for text in told if CANARY in text]
    assert frame.compute(scheduler="synchronous")["det"].tolist() == [0.5] * 3
    if "key" not in access.options or isinstance(access.options["key"], dict):
        assert CANARY.encode() not in pickle.dumps(list(dict(frame.optimize().__dask_graph__()).values()))


def complaint(ask: Callable[[], Any]) -> str:
    """Give all that is printed of an error that is not caught."""
    with pytest.raises(FilebrokerError) as caught:
        ask()
    return "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("access", ["literally", "by environment"], indirect=True)
def test_no_credential_is_in_an_error(access: Access, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def give(url: str = access.url, **options: Any) -> IntakeCatalog:
        return intake.open_filebroker(url, storage_options=access.options | options)

    texts = [complaint(lambda: give("s3://no-such-bucket-at-all/runs")[-1])]
    texts += [
        complaint(lambda: give(endpoint_url="no-endpoint")[-1]),
        complaint(lambda: give(no_such_option=CANARY)[-1]),
    ]
    retries = {"mode": f"mode-{CANARY}"}  # which botocore repeats
    texts.append(complaint(lambda: len(give(config_kwargs={"retries": retries}))))
    texts += [complaint(lambda: give()["missing"]), complaint(lambda: give()[access.uid, "missing"])]
    texts += [
        complaint(lambda: give().search({"$larger": 5})),
        complaint(lambda: give()[-1].primary(columns="missing").read()),
    ]
    monkeypatch.setenv("FILEBROKER_TIMEOUT", "0.3")
    with refusing_port() as nobody:
        texts += [complaint(lambda: len(give(endpoint_url=nobody))), repr(give(endpoint_url=nobody))]
        texts += [give(endpoint_url=nobody)._repr_html_()]
    for fault in ("403", "reset", "truncate"):
        with Proxy(s3_endpoint) as proxy:
            proxy.fault("", fault)
            texts += [complaint(lambda: give(endpoint_url=proxy.url)[-1]), repr(give(endpoint_url=proxy.url).recent)]
    assert not [text for text in texts if CANARY in text]


@pytest.mark.parametrize("driver", ["filebroker", "filebroker_run", "filebroker_stream"])
@pytest.mark.parametrize(
    "given",
    [
        {"url": f"s3://key:{CANARY}@bucket/runs"},
        {"url": f"https://me:{CANARY}@example.com/runs"},
        {"storage_options": CANARY * 3},
        {"storage_options": [CANARY]},
        {"storage_options": {"key": CANARY}, "handlers": [CANARY]},
        {"storage_options": {"key": CANARY}, "root_map": 5},
        {"storage_options": {"key": {"env": CANARY.upper()}, "secret": CANARY}, "url": ""},
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_refused_without_repeating_secrets(driver: str, given: dict[str, Any]) -> None:
    arguments = {"url": "s3://bucket/runs"} | ({} if driver == "filebroker" else {"run": -1}) | given
    with pytest.raises(FilebrokerError) as caught:
        getattr(intake, f"open_{driver}")(**arguments)
    if "handlers" not in given:
        assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_variable_that_is_not_set_is_named(bucket: tuple[str, str], s3_endpoint: str) -> None:
    named = {"key": {"env": "HALL_KEY"}, "secret": f"x-{CANARY}", "endpoint_url": s3_endpoint}
    catalog = intake.open_filebroker(bucket[0], storage_options=named)
    text = complaint(lambda: len(catalog))
    assert "HALL_KEY, which is not set" in text
    assert CANARY not in text + repr(catalog)


def test_templates_of_a_catalog_file_take_credentials_from_the_environment(
    bucket: tuple[str, str], s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"key": "{{ env(HALL_KEY) }}", "secret": "{{env('HALL_SECRET')}}", "endpoint_url": s3_endpoint}
    source = {"driver": "filebroker", "args": {"url": bucket[0], "storage_options": named}}
    directory = Path(catalog_search_path()[0])
    directory.mkdir(parents=True)
    file = directory / "hall.yml"
    file.write_text(yaml.safe_dump({"sources": {"hall": source}}))
    monkeypatch.setenv("HALL_KEY", f"key-{CANARY}")
    monkeypatch.setenv("HALL_SECRET", f"secret-{CANARY}")
    parent = intake.open_catalog(str(file))
    catalog = parent.hall
    stream = catalog[-1].primary
    assert catalog.storage_options == {
        "key": f"key-{CANARY}",
        "secret": f"secret-{CANARY}",
        "endpoint_url": s3_endpoint,
    }
    assert stream.read()["det"].tolist() == [0.5] * 3
    with closing(Broker.named("hall")) as broker:
        assert [header.start["uid"] for header in broker()] == [bucket[1]]
        told = [repr(broker), str(broker.v2), complaint(lambda: broker["missing"])]
    told += [parent.serialize(), parent.yaml(), repr(parent), *said(catalog), *said(catalog[-1]), *said(stream)]
    told += [str(entry.describe()) for entry in parent.walk(depth=5).values()]
    told += [repr(stream.to_dask()), catalog.serialize(), complaint(lambda: catalog["missing"])]
    YAMLFileCatalog(str(file)).add(stream, "events")
    assert not [text for text in [*told, file.read_text()] if CANARY in text]
    monkeypatch.setenv("HALL_KEY", "")
    assert "env(HALL_KEY)" in file.read_text()


def test_headers_of_requests_stay_secret(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"Authorization": f"Bearer {CANARY}-of-the-web"}
    with WebServer(Path(place).parent) as server:
        given = Access(f"{server.url}/runs", {"client_kwargs": {"headers": headers}}, HOSTILE["dots"])
        catalog = intake.open_filebroker(given.url, storage_options=given.options)
        stream = catalog[given.uid, given.uid]
        told = [*said(catalog), *said(catalog[given.uid]), *said(stream), repr(stream.to_dask().expr)]
        told += [complaint(lambda: catalog["missing"]), repr(catalog.v1)]
        assert len(stream.read()) == 2
        catalog.save(str(tmp_path / "web.yml"))
    monkeypatch.setenv("FILEBROKER_TIMEOUT", "0.3")
    alone = intake.open_filebroker(given.url, storage_options=given.options | {"block_size": 65536})
    with pytest.warns(OfflineWarning) as warned:
        told.append(repr(alone))
    told += [str(item.message) for item in warned] + [(tmp_path / "web.yml").read_text()]
    assert not [text for text in told if CANARY in text]


@pytest.mark.skipif(not IS_2, reason="Take2 came with Intake 2")
def test_no_credential_is_in_what_take2_shows_and_writes(access: Access, tmp_path: Path) -> None:
    from intake.readers.entry import Catalog as Take2Catalog

    from filebroker.intake.take2 import FilebrokerCatalog

    data = FilebrokerCatalog(access.url, storage_options=access.options)
    reader = data.to_reader()
    whole = Take2Catalog()
    whole["runs"] = reader
    whole.to_yaml_file(str(tmp_path / "take2.yml"))
    assert access.uid in reader.read()
    told = [repr(data), repr(reader), repr(reader.to_entry()), repr(whole), reader.token, str(dir(reader))]
    told += [(tmp_path / "take2.yml").read_text(), str(whole.to_dict())]
    assert not [text for text in told if CANARY in text]
    if not isinstance(access.options.get("key"), str):
        again = Take2Catalog.from_yaml_file(str(tmp_path / "take2.yml"))
        assert access.uid in again["runs"].read()
