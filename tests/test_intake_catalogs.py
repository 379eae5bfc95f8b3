"""Runs as Intake's catalogs: what opens them, what each key gives, and that all of it is what a Broker gives.

Everything here runs on Intake 0.6.4, 0.7.0 and 2.
"""

import copy
import itertools
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import fsspec
import intake
import numpy as np
import pandas as pd
import pytest
import yaml
from intake.catalog import Catalog

import factories as make
from filebroker import Broker, FilebrokerError, list_configs, lookup_config
from filebroker.cataloging.run import Run
from filebroker.ground.errors import (
    AmbiguousPrefix,
    CatalogNotFound,
    InvalidConfig,
    InvalidKey,
    InvalidOption,
    InvalidQuery,
    NotEnoughRuns,
    NotSupported,
    ReadOnlyCatalog,
    RunNotFound,
    UnknownField,
    UnknownStream,
)
from filebroker.intake.catalogs import IntakeCatalog
from filebroker.intake.runs import IntakeRun
from filebroker.intake.streams import IntakeStream
from filebroker.queries import TextQuery, TimeRange
from filebroker.storing.recorder import Recorder

HOUR = 3600.0
IS_0_6 = intake.__version__.startswith("0.6.")
#: Uids that are no UUIDs, or look like something else, with their scan_ids.
ODD: list[tuple[str, int | None]] = [
    *[("dotted.uid.of.a.run", 40), ("dotted", 41), ("dotted.primary", 42), ("with/slash/uid", 43), ("77", 44)],
    *[
        ("12345678-digits", 45),
        ("s000046_count_deadbeef", 46),
        ("ünïcode-uid", 47),
        ("with space", 48),
        ("primary", 49),
    ],
    *[("-2", 50), ("none", None), ("Capital", 51), ("capital", 52), ("%41%2F", 53), ("search", 54)],
]
OTHERS = 16


def uid_of(number: int) -> str:
    """Give a UUID by its number; the first eight digits tell it from the others."""
    return f"{number * 0x1357913 & 0xFFFFFFFF:08x}-0000-4000-8000-{number:012x}"


def documents_of(number: int, uid: str, scan_id: int | None) -> list[make.Pair]:
    """Make one run of the model; its number tells what it holds."""
    plan = ("scan", "count", "grid scan", "rel_scan")[number % 4]
    sample = ("LaB6 standard", "copper foil")[number % 2]
    begun = make.start(uid=uid, scan_id=scan_id, time=make.T0 + HOUR * number, plan_name=plan, num=number)
    begun |= {"sample": {"name": sample}, "operator": ("Ana", "Bert", "Chen")[number % 3]}
    if scan_id is None:
        del begun["scan_id"]
    fields = ["det", "motor"] if number % 3 else ["other"]
    primary, baseline = make.descriptor(begun, fields), make.descriptor(begun, ["temperature"], "baseline")
    events = [("event", make.event(primary, row, dict.fromkeys(fields, row + number / 8))) for row in (1, 2)]
    both = [("descriptor", baseline), ("event", make.event(baseline, 1, {"temperature": 300.0}))] if number % 2 else []
    return [("start", begun), ("descriptor", primary), *events, *both, ("stop", make.stop(begun))]


def model() -> Iterator[tuple[str, int | None]]:
    """Give uids and scan_ids, oldest first; two runs of each scan_id, and then the odd ones."""
    yield from ((uid_of(number + 1), number // 2) for number in range(OTHERS))
    yield from ODD


def record(broker: Broker, documents: list[make.Pair]) -> str:
    for pair in documents:
        broker.insert(*pair)
    uid: str = documents[0][1]["uid"]
    return uid


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the directory of a catalog of some thirty runs."""
    path = str(tmp_path_factory.mktemp("model") / "runs")
    with closing(Broker(path)) as broker:
        for number, (uid, scan_id) in enumerate(model()):
            record(broker, documents_of(number, uid, scan_id))
    return path


@pytest.fixture
def catalog(place: str) -> IntakeCatalog:
    found = intake.open_filebroker(place)
    assert isinstance(found, IntakeCatalog)
    return found


@pytest.fixture
def broker(place: str) -> Iterator[Broker]:
    with closing(Broker(place, read_only=True)) as opened:
        yield opened


def written(file: Path, **sources: Any) -> str:
    """Write a catalog file whose sources are of driver filebroker where they name no other."""
    known = {name: {"driver": "filebroker", **source} for name, source in sources.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({"metadata": {"version": 1}, "sources": known}))
    return str(file)


def outcome(ask: Callable[[], Any]) -> Any:
    """Give an answer, or the class of the error in its place."""
    try:
        return ask()
    except FilebrokerError as error:
        return type(error)


def uids(found: Any) -> list[str]:
    return [run.uid for run in found.values()]


def small(path: Path, *scan_ids: int) -> str:
    """Record a catalog of short runs; give its path."""
    with closing(Broker(path)) as broker:
        for number, scan_id in enumerate(scan_ids):
            record(broker, make.run(2, scan_id=scan_id, time=make.T0 + HOUR * number))
    return str(path)


def begin(path: Path) -> None:
    """Make a catalog without runs."""
    small(path.parent / "other", 1)
    path.mkdir()
    (path / "filebroker.json").write_bytes((path.parent / "other" / "filebroker.json").read_bytes())


# ------------------------------------------------------------------------------------- opening


def test_the_drivers_are_registered() -> None:
    assert {"filebroker", "filebroker_run", "filebroker_stream"} <= set(intake.registry)
    assert intake.registry["filebroker"] is IntakeCatalog
    assert [callable(getattr(intake, f"open_{name}")) for name in ("filebroker", "filebroker_run", "filebroker_stream")]


def test_a_path_may_be_relative_or_at_home_or_have_spaces(own_home: Path) -> None:
    small(own_home / "my runs # 100%" / "beam time", 7)
    for url in ("my runs # 100%/beam time", "~/my runs # 100%/beam time", "./x/../my runs # 100%//beam time/"):
        found = intake.open_filebroker(url)
        assert found[-1].metadata["start"]["scan_id"] == 7
        assert found.url == str(own_home / "my runs # 100%" / "beam time")
    assert intake.open_filebroker(own_home / "my runs # 100%" / "beam time") == found
    assert intake.open_filebroker(f"file://{own_home}/my runs # 100%/beam time") == found


def test_a_relative_path_stays_where_it_was_when_the_directory_changes(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(own_home / "runs", 7)
    found = intake.open_filebroker("runs")
    monkeypatch.chdir(tmp_path)
    assert len(found) == 1
    assert len(pickle.loads(pickle.dumps(found))) == 1


def test_memory_is_a_place_too(own_home: Path) -> None:
    url = f"memory:/{own_home}/runs"
    with closing(Broker(url)) as broker:
        uid = record(broker, make.run(3))
        broker.flush()
    found = intake.open_filebroker(url, storage_options={})
    assert list(found) == [uid]
    assert found[-1].primary.read()["det"].tolist() == [0.5] * 3


def test_a_bucket_is_a_place_too(s3_url: tuple[str, dict[str, Any]]) -> None:
    url, options = s3_url
    with closing(Broker(f"{url}/a/b", storage_options=options)) as broker:
        uid = record(broker, make.run(3))
        broker.flush()
    found = intake.open_filebroker(f"{url}/a//b/", storage_options=options)
    assert list(found) == [uid]
    assert found[uid, "primary"].read()["det"].tolist() == [0.5] * 3
    assert found[uid].primary.to_dask().compute(scheduler="synchronous")["seq_num"].tolist() == [1, 2, 3]
    assert found.storage_options == options


def test_a_yaml_file_opens_it(place: str, tmp_path: Path) -> None:
    parent = intake.open_catalog(written(tmp_path / "sites.yml", here={"args": {"url": place}, "description": "mine"}))
    assert list(parent) == ["here"]
    here = parent.here
    assert type(here) is IntakeCatalog
    assert (here.name, here.description) == ("here", "mine")
    assert here == parent["here"] == intake.open_filebroker(place)
    assert uids(here) == [uid for uid, _ in reversed([*model()])]


def test_the_driver_may_be_given_beside_the_path(place: str) -> None:
    assert intake.open_catalog(place, driver="filebroker") == intake.open_filebroker(place)


def test_a_catalog_file_in_a_store_leads_to_catalogs_beside_it(own_home: Path) -> None:
    root = f"memory:/{own_home}"
    with closing(Broker(f"{root}/data/runs")) as broker:
        record(broker, make.run(2, scan_id=7))
        broker.flush()
    urls = {"a": "../data/runs", "b": "{{ CATALOG_DIR }}/../data/runs", "c": f"{root}/x/../data//runs"}
    sources = {name: {"driver": "filebroker", "args": {"url": url}} for name, url in urls.items()}
    with fsspec.open(f"{root}/files/sites.yml", "w") as file:
        yaml.safe_dump({"sources": sources}, file)
    parent = intake.open_catalog(f"{root}/files/sites.yml")
    assert [list(parent[name]) for name in urls] == [list(parent.a)] * 3
    assert parent["b", 7, "primary"].read()["det"].tolist() == [0.5, 0.5]


def test_the_driver_may_be_named_by_its_class(place: str, tmp_path: Path) -> None:
    dotted = {"driver": "filebroker.intake.catalogs.IntakeCatalog", "args": {"url": place}}
    assert len(intake.open_catalog(written(tmp_path / "a.yml", here=dotted)).here) == len([*model()])


def test_a_path_in_yaml_is_relative_to_the_file(tmp_path: Path) -> None:
    small(tmp_path / "data" / "runs", 7)
    urls = ["../data/runs", "{{ CATALOG_DIR }}/../data/runs", "{{CATALOG_DIR}}/../data/./runs/"]
    sources = {f"s{number}": {"args": {"url": url}} for number, url in enumerate(urls)}
    parent = intake.open_catalog(written(tmp_path / "catalogs" / "a.yml", **sources))
    for name in sources:
        assert parent[name].url == str(tmp_path / "data" / "runs")
        assert parent[name][-1].metadata["start"]["scan_id"] == 7


def test_other_names_of_arguments_are_understood(place: str) -> None:
    handler = {"X": "package.Handler"}
    assert intake.open_filebroker(path=place) == intake.open_filebroker(place)
    assert intake.open_filebroker(place, handler_registry=handler) == intake.open_filebroker(place, handlers=handler)


# ------------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({}, InvalidConfig, "names no catalog"),
        ({"url": ""}, InvalidConfig, "names no catalog"),
        ({"url": 5}, InvalidConfig, "names no catalog"),
        ({"url": "runs", "limit": -1}, InvalidOption, "limit=-1"),
        ({"url": "runs", "limit": "many"}, InvalidOption, "limit='many'"),
        ({"url": "runs", "limit": True}, InvalidOption, "limit=True"),
        ({"url": "runs", "limit": 2.5}, InvalidOption, "limit=2.5"),
        ({"url": "runs", "labels": "perhaps"}, InvalidOption, "labels='perhaps'"),
        ({"url": "runs", "read_only": "perhaps"}, InvalidOption, "read_only='perhaps'"),
        ({"url": "runs", "search": 5}, InvalidConfig, "search 5"),
        ({"url": "runs", "search": [["scan"]]}, InvalidConfig, "search"),
        ({"url": "runs", "storage_options": "anon"}, InvalidConfig, "storage_options"),
        ({"url": "runs", "handlers": ["x"]}, InvalidConfig, "handlers"),
        ({"url": "runs", "handlers": {"X": "nodots"}}, InvalidConfig, "X"),
        ({"url": "runs", "root_map": "x"}, InvalidConfig, "root_map"),
        ({"url": "runs", "root_map": {"/a": 5}}, InvalidConfig, "root_map"),
        ({"url": "runs", "transforms": "x"}, InvalidConfig, "transforms"),
        ({"url": "s3://key:sesame@bucket/runs"}, InvalidConfig, "credential"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        intake.open_filebroker(**arguments)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("arguments", [{"nonsense": 5}, {"metadata": 5}])
def test_arguments_that_do_not_exist_are_refused(place: str, arguments: dict[str, Any]) -> None:
    with pytest.raises((TypeError, FilebrokerError)):
        intake.open_filebroker(place, **arguments)


@pytest.mark.parametrize("key", [None, True, 1.5, b"abc", ["a"]])
def test_a_run_is_named_by_a_number_or_text(place: str, key: Any) -> None:
    with pytest.raises(InvalidConfig, match="run"):
        intake.open_filebroker_run(place, run=key)
    with pytest.raises(InvalidConfig, match="run"):
        intake.open_filebroker_stream(place, run=key)


def test_numpy_integers_name_runs_everywhere(place: str) -> None:
    run = intake.open_filebroker_run(place, run=np.int64(-1))
    assert run == intake.open_filebroker_run(place, run=-1)
    stream = intake.open_filebroker_stream(place, run=np.int64(-1))
    assert stream == intake.open_filebroker_stream(place, run=-1)
    assert stream.metadata == run.primary.metadata
    assert yaml.safe_load(run.yaml())["sources"]


def test_a_catalog_that_is_not_there_is_found_out_when_it_is_looked_at(tmp_path: Path) -> None:
    found = intake.open_filebroker(tmp_path / "nothing")
    assert "nothing" in repr(found)
    assert "nothing" in found._repr_html_()
    for ask in (lambda: len(found), lambda: list(found), lambda: found[-1], lambda: found.search("x"), found.read):
        with pytest.raises(CatalogNotFound, match="nothing"):
            ask()
    run = intake.open_filebroker_run(tmp_path / "nothing", run=-1)
    stream = intake.open_filebroker_stream(tmp_path / "nothing", run=-1)
    assert "nothing" in repr(run)
    assert "nothing" in repr(stream)
    assert not (tmp_path / "nothing").exists()


# ------------------------------------------------------------------------------------- keys


def keys() -> dict[str, Any]:
    """Give keys of every kind, by what pytest calls them."""
    table: list[Any] = [uid for uid, _ in model()]
    table += [uid_of(number + 1)[:length] for number in range(OTHERS) for length in (8, 5, 1)]
    table += [
        "dott",
        "with",
        "with/",
        "dotted.",
        "dotted.u",
        "123",
        "1234567",
        "Cap",
        "cap",
        "ünï",
        "s000046",
        "no",
        "%4",
    ]
    table += [
        *range(-36, 56, 3),
        *map(str, range(-36, 56, 3)),
        0,
        "007",
        " 7 ",
        "+7",
        "- 7",
        "",
        " ",
        "zzz",
        "-0",
        "1e1",
    ]
    table += [np.int64(7), np.int8(-1), np.uint16(45), np.int32(99), np.str_("dotted"), np.str_("45")]
    table += [None, b"dotted", b"7", 7.0, 7.5, float("nan"), float("inf"), np.float64(7), True, False, np.bool_(True)]
    table += [10**30, -(10**30), "9" * 40, "9" * 400, "é", "\x00", "\ud800", "x" * 10_000, object, 1j]
    table += [pd.Timestamp(0), Path("dotted")]
    return {f"{number}-{key!r:.30}": key for number, key in enumerate(table)}


KEYS = keys()


@pytest.mark.parametrize("name", KEYS)
def test_every_key_gives_what_a_broker_gives(name: str, catalog: IntakeCatalog, broker: Broker) -> None:
    key = KEYS[name]
    expected = outcome(lambda: dict(broker[key].start))
    found = outcome(lambda: catalog[key].metadata["start"])
    assert found == expected
    assert (key in catalog) == isinstance(found, dict)
    if isinstance(key, str | int) and not isinstance(key, bool) and key != "":
        assert outcome(lambda: intake.open_filebroker_run(catalog.url, run=key).metadata["start"]) == expected


@pytest.mark.parametrize(
    ("key", "error", "builtin"),
    [
        (9999, RunNotFound, KeyError),
        ("zzzz", RunNotFound, KeyError),
        ("", AmbiguousPrefix, ValueError),
        ("dott", AmbiguousPrefix, ValueError),
        (-99, NotEnoughRuns, IndexError),
        (None, InvalidKey, TypeError),
        (b"dotted", InvalidKey, TypeError),
        (slice(-3, None), InvalidKey, TypeError),
        ({"plan_name": "scan"}, InvalidKey, TypeError),
        (np.array([7]), InvalidKey, TypeError),
        ("dotted.uid.of.a.run.nostream", UnknownStream, KeyError),
        ("dotted.uid.of.b.run", RunNotFound, KeyError),
        (".", RunNotFound, KeyError),
        ("..", RunNotFound, KeyError),
        (".primary", RunNotFound, KeyError),
        ("zzz.primary", RunNotFound, KeyError),
        (("dotted.uid.of.a.run", "nostream"), UnknownStream, KeyError),
        (("zzz", "primary"), RunNotFound, KeyError),
        ((-1, 0), UnknownStream, KeyError),
        ((-1, None), UnknownStream, KeyError),
        ((-1, "primary", "nothing"), UnknownField, KeyError),
        ((-1, "primary", 0), FilebrokerError, Exception),
    ],
)
def test_a_key_that_names_no_run_gives_the_errors_that_databroker_gave(
    catalog: IntakeCatalog, key: Any, error: type[Exception], builtin: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        catalog[key]
    assert isinstance(caught.value, builtin)
    assert isinstance(caught.value, FilebrokerError)
    assert len(str(caught.value)) < 3000
    assert key not in catalog


def test_labels_are_keys_of_all_runs(catalog: IntakeCatalog) -> None:
    labels = list(catalog(labels=True))
    assert len(set(labels)) == len(labels) == len(catalog)
    for label, uid in zip(labels, catalog, strict=True):
        assert catalog[label].uid == uid
        assert label.isidentifier()
        assert getattr(catalog, label).uid == uid
        assert label in catalog
        assert catalog[label, "primary"] == catalog[f"{label}.primary"]
    assert labels[-1] == f"s000000_scan_{uid_of(1)[:8]}"
    assert "s000000_grid_scan_" + uid_of(1)[:8] not in catalog
    assert not hasattr(catalog, "s000000_grid_scan_" + uid_of(1)[:8])


def test_numpy_integers_find_what_integers_find(catalog: IntakeCatalog) -> None:
    assert catalog[np.int64(-1)].uid == catalog[-1].uid == catalog[np.int8(-1), "primary"].metadata["start"]["uid"]


@pytest.mark.parametrize("uid", [*[uid for uid, _ in ODD], uid_of(2)])
def test_nested_keys_lead_to_streams_in_every_form(catalog: IntakeCatalog, tmp_path: Path, uid: str) -> None:
    parent = intake.open_catalog(written(tmp_path / "p.yml", here={"args": {"url": catalog.url}}))
    primary = catalog[uid].primary
    assert isinstance(primary, IntakeStream)
    forms = [catalog[uid]["primary"], catalog[uid, "primary"], catalog[[uid, "primary"]], catalog[(uid,), "primary"]]
    forms += [parent["here"][uid]["primary"], parent["here", uid, "primary"], parent.here[uid].primary]
    if f"{uid}.primary" not in dict(ODD):
        forms += [parent[["here", uid, "primary"]], parent[f"here.{uid}.primary"], catalog[f"{uid}.primary"]]
    assert [form.metadata["start"]["uid"] for form in forms] == [uid] * len(forms)
    assert [form.name for form in forms] == ["primary"] * len(forms)
    assert forms == [primary] * len(forms)
    runs = [catalog[uid], catalog[(uid,)], catalog[[uid]], parent["here", uid], parent[["here", uid]]]
    runs += [parent[f"here.{uid}"]]
    assert [run.uid for run in runs] == [uid] * len(runs)


def test_a_dotted_key_that_is_a_uid_is_that_run(catalog: IntakeCatalog) -> None:
    assert catalog["dotted.primary"].uid == "dotted.primary"
    assert catalog["dotted.primary.primary"].metadata["start"]["uid"] == "dotted.primary"
    assert catalog["dotted", "primary"].metadata["start"]["uid"] == "dotted"
    assert catalog["dotted.uid.of.primary"].metadata["start"]["uid"] == "dotted.uid.of.a.run"  # a prefix, and a stream


def test_numbers_lead_to_streams_too(catalog: IntakeCatalog, tmp_path: Path) -> None:
    parent = intake.open_catalog(written(tmp_path / "p.yml", here={"args": {"url": catalog.url}}))
    newest = catalog[-1].primary
    assert catalog[-1, "primary"] == catalog["-1.primary"] == newest
    assert parent["here", -1, "primary"] == parent["here.-1.primary"] == newest
    assert catalog[47, "primary"].metadata["start"]["uid"] == "ünïcode-uid"
    assert catalog["47.primary"].metadata["start"]["uid"] == "ünïcode-uid"


# ------------------------------------------------------------------------------------- all of them


def test_it_is_a_mapping_newest_first(catalog: IntakeCatalog, broker: Broker) -> None:
    expected = [header.start["uid"] for header in broker()]
    assert len(catalog) == len(expected)
    assert list(catalog) == list(catalog.keys()) == expected
    assert uids(catalog) == [run.uid for _, run in catalog.items()] == expected
    assert [name for name, _ in catalog.items()] == [run.name for run in catalog.values()] == expected
    assert list(itertools.islice(catalog, 2)) == expected[:2]
    assert expected[3] in catalog
    assert bool(catalog)
    assert all(isinstance(run, IntakeRun) and run.cat is catalog for run in catalog.values())
    assert dict(itertools.islice(catalog.items(), 2)) == {uid: catalog[uid] for uid in expected[:2]}


def test_an_empty_catalog_is_no_mistake(tmp_path: Path) -> None:
    begin(tmp_path / "empty")
    found = intake.open_filebroker(tmp_path / "empty")
    assert (len(found), list(found), list(found.items()), list(found.values())) == (0, [], [], [])
    assert bool(found)
    assert "0 runs" in repr(found)
    assert found._repr_html_()
    assert "x" not in found
    assert len(found.to_dataframe()) == len(found.search("x")) == len(found.recent) == 0
    assert "__len__" in dir(found)
    with pytest.raises(NotEnoughRuns):
        found[-1]
    with pytest.raises(RunNotFound):
        found["x"]


@pytest.mark.parametrize("limit", [0, 1, 5, "5", 31, 32, 33, 10**9])
def test_a_limit_lists_the_newest_and_finds_all(place: str, limit: Any) -> None:
    everything = list(intake.open_filebroker(place))
    limited = intake.open_filebroker(place, limit=limit)
    expected = everything[: int(limit)]
    assert list(limited) == uids(limited) == expected
    assert len(limited) == len(expected)
    assert limited.to_dataframe(["num"]).index.tolist() == expected
    assert limited.to_dataframe(["num"], limit=3).index.tolist() == expected[:3]
    assert limited[everything[-1]].uid == everything[-1]
    assert everything[-1] in limited


def test_labels_are_listed_where_they_are_wished(place: str) -> None:
    plain, labelled = intake.open_filebroker(place), intake.open_filebroker(place, labels=True)
    labels = list(labelled)
    assert labels == list(labelled.keys()) == [name for name, _ in labelled.items()]
    assert uids(labelled) == list(plain)
    assert [run.name for run in labelled.values()] == labels
    assert set(labels) <= set(dir(labelled))
    assert not set(labels) & set(dir(plain))
    assert labelled._ipython_key_completions_() == labels
    assert plain._ipython_key_completions_() == list(plain)
    for text in ("true", "True"):
        assert list(intake.open_filebroker(place, labels=text)) == labels
    for text in ("false", "False", ""):
        assert list(intake.open_filebroker(place, labels=text)) == list(plain)


def test_the_recent_runs_are_a_catalog_of_the_newest_under_labels(place: str) -> None:
    found = intake.open_filebroker(place)
    assert type(found.recent) is IntakeCatalog
    assert list(found.recent) == list(found(labels=True))
    assert found.recent == found(limit=100, labels=True)
    assert found(limit=3).recent == found(limit=3, labels=True)
    assert found(limit=0).recent == found(limit=0, labels=True)
    assert found(limit=1000).recent == found.recent
    assert uids(found.search(plan_name="scan").recent) == uids(found.search(plan_name="scan"))


# ------------------------------------------------------------------------------------- finding

SEARCHES: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    ("LaB6", {}, {"text_search": "LaB6"}),
    ("copper foil", {}, {"text_search": "copper foil"}),
    ("nobody said this", {}, {"text_search": "nobody said this"}),
    ({"plan_name": "scan"}, {}, {"plan_name": "scan"}),
    ({"num": {"$gt": 10, "$lt": 20}}, {}, {"num": {"$gt": 10, "$lt": 20}}),
    ({"$or": [{"num": 3}, {"operator": "Ana"}]}, {}, {"$or": [{"num": 3}, {"operator": "Ana"}]}),
    ({"sample.name": {"$regex": "^copper"}}, {}, {"sample.name": {"$regex": "^copper"}}),
    ({"text_search": "LaB6", "operator": "Ana"}, {}, {"text_search": "LaB6", "operator": "Ana"}),
    (None, {"plan_name": "count"}, {"plan_name": "count"}),
    (None, {"since": make.T0 + 20 * HOUR}, {"since": make.T0 + 20 * HOUR}),
    (None, {"until": "2025-11-22T20:00:00Z"}, {"until": "2025-11-22T20:00:00Z"}),
    (
        None,
        {"since": "2025-11-22T20:00:00Z", "until": "2025-11-23"},
        {"since": "2025-11-22T20:00:00Z", "until": "2025-11-23"},
    ),
    (None, {"data_key": "other"}, {"data_key": "other"}),
    (None, {"data_key": "no_such_field"}, {"data_key": "no_such_field"}),
    (
        "LaB6",
        {"data_key": "motor", "since": make.T0 + HOUR},
        {"text_search": "LaB6", "data_key": "motor", "since": make.T0 + HOUR},
    ),
    (None, {"scan_id": 3}, {"scan_id": 3}),
    (None, {"text_search": "LaB6"}, {"text_search": "LaB6"}),
    (TextQuery("LaB6"), {}, {"text_search": "LaB6"}),
    (TimeRange(since=make.T0 + 20 * HOUR), {}, {"since": make.T0 + 20 * HOUR}),
    ("", {}, {}),
    (None, {}, {}),
    ({}, {}, {}),
]


@pytest.mark.parametrize(("text", "keywords", "prompt"), SEARCHES)
def test_a_search_finds_what_the_prompt_finds(
    catalog: IntakeCatalog, broker: Broker, text: Any, keywords: dict[str, Any], prompt: dict[str, Any]
) -> None:
    expected = [header.start["uid"] for header in broker(**prompt)]
    found = catalog.search(text, **keywords)
    assert type(found) is IntakeCatalog
    assert list(found) == uids(found) == expected
    assert len(found) == len(expected)
    assert found.cat is catalog
    assert list(intake.open_filebroker(catalog.url, search=prompt)) == expected
    assert list(pickle.loads(pickle.dumps(found))) == expected
    assert all(uid in found for uid in expected)


def test_searches_narrow_one_another(catalog: IntakeCatalog, broker: Broker) -> None:
    both = catalog.search("LaB6").search(plan_name="scan").search({"num": {"$gt": 5}})
    expected = [header.start["uid"] for header in broker(text_search="LaB6", plan_name="scan", num={"$gt": 5})]
    assert list(both) == expected
    assert 0 < len(expected) < len(catalog.search("LaB6"))
    assert catalog.search("LaB6") == catalog(search="LaB6") == catalog(search={"text_search": "LaB6"})
    assert both != catalog.search("LaB6") != catalog
    assert both[-1].uid == expected[0]
    assert both[-len(expected)].uid == expected[-1]
    assert list(catalog(search=["LaB6", {"plan_name": "scan"}, {"num": {"$gt": 5}}])) == expected
    assert both[expected[0]] == catalog[expected[0]]
    assert list(both(labels=True)) == list(both.search(None)(labels=True))


def test_only_runs_that_answer_are_in_a_search(catalog: IntakeCatalog) -> None:
    found = catalog.search(operator="Ana")
    other = next(uid for uid in catalog if uid not in set(found))
    for key in (other, other[:8], catalog(labels=True).search({"uid": other})._ipython_key_completions_()[0]):
        with pytest.raises(RunNotFound):
            found[key]
    empty = catalog.search("nobody said this")
    with pytest.raises(NotEnoughRuns):
        empty[-1]


def test_a_search_keeps_limits_and_labels(catalog: IntakeCatalog) -> None:
    found = catalog(limit=2, labels=True).search(plan_name="scan")
    assert len(found) == 2
    assert list(found) == list(catalog.search(plan_name="scan")(labels=True))[:2]


@pytest.mark.parametrize(
    ("text", "keywords"),
    [
        (5, {}),
        (["scan"], {}),
        (b"scan", {}),
        ({"$nonsense": 1}, {}),
        ({"num": {"$nonsense": 1}}, {}),
        ({"num": {"$regex": "("}}, {}),
        (None, {"since": "not a time"}),
        (None, {"until": []}),
        (None, {"data_key": 5}),
        ({5: 5}, {}),
    ],
)
def test_a_search_that_is_not_understood_is_refused_at_once(
    catalog: IntakeCatalog, text: Any, keywords: dict[str, Any]
) -> None:
    with pytest.raises((InvalidQuery, InvalidConfig)):
        catalog.search(text, **keywords)


def test_a_search_that_is_not_understood_in_yaml_is_told_of_when_it_is_asked(place: str, tmp_path: Path) -> None:
    source = {"args": {"url": place, "search": {"num": {"$nonsense": 1}}}}
    found = intake.open_catalog(written(tmp_path / "a.yml", bad=source)).bad
    with pytest.raises(InvalidQuery, match="nonsense"):
        len(found)
    assert "nonsense" in repr(found)


@pytest.mark.parametrize(
    ("search", "prompt"),
    [
        ("LaB6", {"text_search": "LaB6"}),
        ({"plan_name": "scan", "num": {"$gt": 5}}, {"plan_name": "scan", "num": {"$gt": 5}}),
        (
            {"text_search": "LaB6", "since": "2025-11-22T20:00:00Z"},
            {"text_search": "LaB6", "since": "2025-11-22T20:00:00Z"},
        ),
        (["LaB6", {"plan_name": "scan"}], {"text_search": "LaB6", "plan_name": "scan"}),
        ([{"data_key": "motor"}, "LaB6"], {"text_search": "LaB6", "data_key": "motor"}),
        ("", {}),
        ([], {}),
        (None, {}),
    ],
)
def test_a_search_in_yaml_has_three_forms(
    place: str, broker: Broker, own_home: Path, search: Any, prompt: dict[str, Any]
) -> None:
    expected = [header.start["uid"] for header in broker(**prompt)]
    file = written(own_home / ".config" / "filebroker" / "s.yml", saved={"args": {"url": place, "search": search}})
    saved = intake.open_catalog(file).saved
    assert list(saved) == expected
    assert [header.start["uid"] for header in saved.v1()] == expected
    assert [header.start["uid"] for header in Broker.named("saved")()] == expected
    assert list(saved.v2) == expected


@pytest.mark.parametrize(
    "search",
    [
        {"scan_id": np.int64(3)},
        {"scan_id": {"$in": (3, 4)}},
        {"scan_id": {"$in": np.array([3, 4])}},
        {"num": {"$gt": np.float64(10.5)}},
        {"plan_name": {"$regex": re.compile("^SC", re.IGNORECASE)}},
        {"since": pd.Timestamp("2025-11-22T20:00", tz="UTC")},
        {"since": datetime(2025, 11, 22, 20, tzinfo=UTC)},
        {"since": datetime(2025, 11, 22, 20, tzinfo=timezone(timedelta(hours=3)))},
        {"since": datetime(2025, 11, 22, 20)},
        {"until": date(2025, 11, 23)},
        {"since": np.float64(make.T0 + 20 * HOUR)},
    ],
    ids=repr,
)
def test_searches_with_values_of_numpy_and_pandas_are_saved(
    catalog: IntakeCatalog, broker: Broker, tmp_path: Path, search: dict[str, Any]
) -> None:
    expected = [header.start["uid"] for header in broker(**search)]
    found = catalog.search(**search)
    assert list(found) == list(pickle.loads(pickle.dumps(found))) == expected
    assert 0 < len(expected) < len(catalog)
    (tmp_path / "a.yml").write_text(found.yaml())
    assert list(intake.open_catalog(str(tmp_path / "a.yml")).filebroker) == expected


# ------------------------------------------------------------------------------------- overviews


def test_an_overview_has_a_row_for_each_run(catalog: IntakeCatalog, broker: Broker) -> None:
    expected = broker().to_dataframe()
    pd.testing.assert_frame_equal(catalog.to_dataframe(), expected)
    pd.testing.assert_frame_equal(catalog.read(), expected)
    columns = ["scan_id", "sample.name", "num"]
    pd.testing.assert_frame_equal(catalog.to_dataframe(columns), broker().to_dataframe(columns))
    pd.testing.assert_frame_equal(
        catalog.to_dataframe(columns, limit=3), broker().to_dataframe(columns).head(3), check_dtype=False
    )
    found = catalog.search("LaB6")
    pd.testing.assert_frame_equal(found.to_dataframe(columns), broker("LaB6").to_dataframe(columns))
    assert len(catalog.to_dataframe(limit=0)) == 0
    assert len(catalog.to_dataframe(limit=1000)) == len(catalog)


def test_its_repr_counts_and_its_html_lists(catalog: IntakeCatalog) -> None:
    assert repr(catalog).startswith("<IntakeCatalog 'filebroker': 32 runs at ")
    assert "16 runs" in repr(catalog.search("LaB6"))
    shown = catalog._repr_html_()
    assert "32 runs" in shown
    assert "<table" in shown
    assert "rel_scan" in shown
    assert repr(catalog[-1]).startswith("<IntakeRun 'search': ")
    assert "primary" in repr(catalog[-1].primary)
    assert catalog._ipython_display_ is catalog[-1]._ipython_display_ is catalog[-1].primary._ipython_display_ is None


# ------------------------------------------------------------------------------------- runs


def test_a_run_gives_its_documents_as_they_were_recorded(catalog: IntakeCatalog, broker: Broker) -> None:
    for uid, _ in model():
        run, header = catalog[uid], broker[uid]
        assert run.uid == uid
        assert run.metadata == {"start": dict(header.start), "stop": dict(header.stop)}
        assert json.loads(json.dumps(run.metadata)) == run.metadata
        assert list(run) == header.stream_names
        assert len(run) == len(header.stream_names)
        for name in run:
            metadata = run[name].metadata
            assert metadata["start"] == dict(header.start)
            assert metadata["descriptors"] == [dict(doc) for doc in header.descriptors if doc["name"] == name]


def test_a_run_is_a_mapping_of_streams(catalog: IntakeCatalog) -> None:
    run = catalog["dotted"]
    assert list(run) == list(run.keys()) == [name for name, _ in run.items()] == ["primary", "baseline"]
    assert [stream.name for stream in run.values()] == ["primary", "baseline"]
    assert "primary" in run
    assert "nothing" not in run
    assert {"baseline", "primary"} <= set(dir(run))
    assert run._ipython_key_completions_() == ["primary", "baseline"]
    assert run.primary == run["primary"] == run["primary",]
    assert list(run.walk()) == ["primary", "baseline"]
    assert list(run.walk(prefix=["x"])) == ["x.primary", "x.baseline"]
    assert isinstance(run.walk()["primary"](), IntakeStream)
    assert bool(run)
    assert run.discover()["metadata"] == run.metadata
    for key in ("nothing", 0, None, ("primary", "det"), slice(None), []):
        with pytest.raises(FilebrokerError) as caught:
            run[key]
        assert isinstance(caught.value, KeyError)
    with pytest.raises(AttributeError, match="nothing"):
        run.nothing  # noqa: B018
    assert not hasattr(run, "_nothing")


def test_a_run_has_the_faces_of_databroker(catalog: IntakeCatalog, broker: Broker) -> None:
    run, header = catalog[7], broker[7]
    pd.testing.assert_frame_equal(run.v1.table(), header.table())
    assert run.v2.primary.read().equals(broker.v2[7].primary.read())
    assert run.primary.to_xarray().equals(broker.v2[7].primary.read())


def test_streams_have_names_like_methods(tmp_path: Path) -> None:
    with closing(Broker(tmp_path / "runs")) as broker:
        begun = make.start()
        names = ["items", "uid", "metadata", "with space", "a.b", "x/y", "primary", "{{ x }}", "ünï", "_hidden"]
        described = [make.descriptor(begun, ["det"], name) for name in names]
        documents = [("start", begun), *[("descriptor", doc) for doc in described]]
        documents += [("event", make.event(doc, 1, {"det": number})) for number, doc in enumerate(described)]
        record(broker, [*documents, ("stop", make.stop(begun))])
    found = intake.open_filebroker(tmp_path / "runs")
    run = found[-1]
    assert sorted(run) == sorted(names)
    for number, name in enumerate(names):
        assert run[name].read()["det"].tolist() == [number]
        assert found[begun["uid"], name] == run[name]
        assert pickle.loads(pickle.dumps(run[name])) == run[name]
        run[name].yaml()
    assert callable(run.items)


# ------------------------------------------------------------------------------------- what Intake asks of sources


def test_each_level_describes_itself(catalog: IntakeCatalog) -> None:
    levels = [(catalog, "catalog", "filebroker"), (catalog[-1], "catalog", "filebroker_run")]
    levels += [(catalog[-1].primary, "dataframe", "filebroker_stream")]
    for source, container, driver in levels:
        described = source.describe()
        assert (described["container"], described["driver"], described["plugin"]) == (container, [driver], [driver])
        assert described["name"] == source.name
        assert described["args"]["url"] == catalog.url
        assert source.discover()["container"] == container if container == "catalog" else source.discover()["dtype"]
        assert type(source)(**described["args"]) == source
        assert source.container == container


def test_entries_are_what_intakes_own_code_takes_them_for(catalog: IntakeCatalog) -> None:
    entries = catalog._entries
    assert len(entries) == len(catalog)
    assert list(entries) == list(catalog.recent)
    uid = catalog[-1].uid
    for key in (uid, -1, next(iter(entries))):
        entry = entries[key]
        assert entry.describe()["container"] == entry._container == "catalog"
        assert entry().uid == entry.get().uid == uid
        assert entry["primary"] == catalog[uid].primary
        assert pickle.loads(pickle.dumps(entry))() == entry()
    assert "zzz" not in entries
    with pytest.raises(KeyError):
        entries["zzz"]
    streams = catalog[uid]._entries
    assert streams["primary"]() == catalog[uid].primary
    assert streams["primary"](columns=["det"]).columns == ["det"]
    assert streams["primary"].describe()["container"] == "dataframe"
    assert dict(streams.items()).keys() == set(catalog[uid])


def test_arguments_may_be_changed(catalog: IntakeCatalog) -> None:
    assert catalog() is catalog.get() is catalog.configure_new() is catalog
    assert catalog(limit=2) == catalog.configure_new(limit=2) == intake.open_filebroker(catalog.url, limit=2)
    run = catalog[-1]
    assert run() is run
    assert run(run=-2).uid == catalog[-2].uid
    assert run.primary() is not None
    assert run.primary(columns=["det"]).read().columns.tolist() == ["seq_num", "time", "det"]
    assert run.primary.configure_new(stream="primary") == run.primary
    for source in (catalog, run, run.primary):
        with pytest.raises((TypeError, FilebrokerError)):
            source(nonsense=5)


@pytest.mark.filterwarnings("ignore:Shell command not executed")  # Intake 2 says so of every parameter
def test_user_parameters_of_yaml_are_chosen_by_their_users(place: str, tmp_path: Path, own_home: Path) -> None:
    text = {"type": "str", "description": "Who measured"}
    source = {
        "args": {
            "url": "{{ CATALOG_DIR }}/{{ where }}",
            "search": {"operator": "{{ operator }}"},
            "limit": "{{ most }}",
        },
        "parameters": {"operator": {**text, "default": "Ana"}, "where": {**text, "default": os.path.basename(place)}},
    }
    source["parameters"]["most"] = {"type": "int", "description": "So many", "default": 3}
    file = written(Path(place).parent / "chosen.yml", chosen=source)
    parent = intake.open_catalog(file)
    everything = intake.open_filebroker(place)
    assert list(parent.chosen) == list(everything.search(operator="Ana"))[:3]
    assert list(parent.chosen(operator="Bert")) == list(everything.search(operator="Bert"))[:3]
    assert list(parent.chosen(operator="Bert", most=1)) == list(everything.search(operator="Bert"))[:1]
    assert list(parent.chosen.configure_new(operator="Chen")) == list(everything.search(operator="Chen"))[:3]
    assert list(parent["chosen"].get(most=2)) == list(everything.search(operator="Ana"))[:2]
    assert list(parent.chosen(limit=1)) == list(everything.search(operator="Ana"))[:1]
    assert parent.chosen(operator="Bert") != parent.chosen
    assert list(pickle.loads(pickle.dumps(parent.chosen(operator="Bert")))) == list(parent.chosen(operator="Bert"))
    configurations = own_home / ".config" / "filebroker"
    configurations.mkdir(parents=True)
    (configurations / "c.yml").write_text(Path(file).read_text().replace("{{ CATALOG_DIR }}", str(Path(place).parent)))
    assert [header.start["uid"] for header in Broker.named("chosen")()] == list(everything.search(operator="Ana"))
    (Path(file)).unlink()


def test_a_user_parameter_may_be_named_as_an_argument(place: str, tmp_path: Path) -> None:
    source = {
        "args": {"url": place, "limit": "{{ limit }}", "labels": "{{ labels }}"},
        "parameters": {
            "limit": {"type": "int", "description": "So many", "default": 4},
            "labels": {"type": "bool", "description": "Readable", "default": True},
        },
    }
    found = intake.open_catalog(written(tmp_path / "a.yml", found=source)).found
    assert list(found) == list(intake.open_filebroker(place, limit=4, labels=True))
    assert len(list(found(limit=2))) == 2
    if not IS_0_6:  # for which every text is true
        assert list(found(labels=False)) == list(intake.open_filebroker(place, limit=4))


@pytest.mark.filterwarnings("ignore:Shell command not executed")
@pytest.mark.parametrize("name", ["path", "url", "search", "name", "description", "where"])
def test_a_user_parameter_may_have_the_name_of_another_argument(tmp_path: Path, name: str) -> None:
    if IS_0_6 and name == "name":
        pytest.skip("Intake 0.6 has the source's own name there")
    small(tmp_path / "a", 1)
    small(tmp_path / "b", 2)
    parameters = {name: {"type": "str", "description": "Which", "default": "a"}}
    source = {"args": {"url": f"{tmp_path}/{{{{ {name} }}}}"}, "parameters": parameters}
    found = intake.open_catalog(written(tmp_path / "p.yml", found=source)).found
    assert found[-1].metadata["start"]["scan_id"] == 1
    assert found(**{name: "b"})[-1].metadata["start"]["scan_id"] == 2


def test_the_environment_fills_in_yaml(
    place: str, tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE_RUNS_ARE", place)
    monkeypatch.setenv("WHO_MEASURED", "Ana")
    arguments = {"url": "{{ env(WHERE_RUNS_ARE) }}", "search": {"operator": "{{ env(WHO_MEASURED) }}"}}
    file = written(own_home / ".config" / "filebroker" / "a.yml", found={"args": arguments})
    found = intake.open_catalog(file).found
    assert list(found) == list(intake.open_filebroker(place, search={"operator": "Ana"}))
    assert list_configs() == ["example", "found"]
    assert [header.start["uid"] for header in Broker.named("found")()] == list(found)
    assert lookup_config("found")["path"] == place


def test_intakes_own_directories_have_the_same_names_for_both(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "share" / "intake" / "hall.yml", hall_a={"args": {"url": place, "search": "LaB6"}})
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
    assert list_configs() == ["example", "hall_a"]
    expected = list(intake.open_filebroker(place, search="LaB6"))
    assert [header.start["uid"] for header in Broker.named("hall_a")()] == expected


def test_what_only_streams_can_do_is_told_by_the_others(catalog: IntakeCatalog) -> None:
    run = catalog[-1]
    for source in (catalog, run):
        with source:
            source.close()
        for ask in (source.read_chunked, lambda source=source: source.read_partition(0)):
            with pytest.raises(NotSupported, match="primary"):
                ask()
        assert not hasattr(source, "entry")
    for ask in (run.read, run.to_dask):
        with pytest.raises(NotSupported, match="primary"):
            ask()
    for source in (catalog, run, run.primary):
        with pytest.raises(NotSupported, match="directory"):
            source.to_spark()
    assert len(catalog) == 32


def test_the_events_of_all_runs_are_one_table_of_dask(catalog: IntakeCatalog, broker: Broker) -> None:
    pytest.importorskip("dask")
    table = catalog.search("LaB6").to_dask().compute(scheduler="synchronous")
    expected = broker("LaB6").to_dask().compute(scheduler="synchronous")
    pd.testing.assert_frame_equal(table, expected)
    assert len(table) == 32


# ------------------------------------------------------------------------------------- other programs, other moments


def test_runs_are_recorded_through_it(tmp_path: Path) -> None:
    begin(tmp_path / "runs")
    found = intake.open_filebroker(tmp_path / "runs")
    assert len(found) == 0
    with closing(found.v1) as broker:
        uid = record(broker, make.run(3))
        assert list(found) == [uid]
        assert found[-1].primary.read()["det"].tolist() == [0.5] * 3
        assert found.v2[uid].primary.read()["det"].values.tolist() == [0.5] * 3


def test_nothing_is_recorded_through_what_is_read_only(place: str) -> None:
    found = intake.open_filebroker(place, read_only=True)
    with pytest.raises(ReadOnlyCatalog):
        found.v1.insert("start", make.start())
    assert list(found.v2) == list(found)


def test_a_catalog_begins_with_the_first_document(tmp_path: Path) -> None:
    found = intake.open_filebroker(tmp_path / "new")
    with closing(found.v1) as broker:
        record(broker, make.run(1, scan_id=5))
    assert found[5].metadata["stop"]["exit_status"] == "success"


def test_a_live_run_grows(tmp_path: Path) -> None:
    documents = make.run(4)
    with closing(Broker(tmp_path / "runs")) as broker:
        for pair in documents[:3]:
            broker.insert(*pair)
        found = intake.open_filebroker(tmp_path / "runs")
        run = found[-1]
        stream = run.primary
        for number in (1, 2, 3):
            assert len(stream.read()) == len(run.primary.read()) == number
            assert stream.discover()["shape"] == (number, 3)
            assert stream.shape == (number, 3)
            assert sum(len(part) for part in stream.read_chunked()) == number
            assert stream.to_dask().compute(scheduler="synchronous")["seq_num"].tolist() == [*range(1, number + 1)]
            assert stream.to_xarray().sizes["time"] == number
            assert run.metadata["stop"] is stream.metadata["stop"] is None
            broker.insert(*documents[2 + number])
        broker.insert(*documents[-1])
        assert len(stream.read()) == 4
        assert stream.discover()["shape"] == (4, 3)
        assert stream.read_partition(0)["seq_num"].tolist() == [1, 2, 3, 4]
        assert run.metadata["stop"]["exit_status"] == "success"
        assert stream.metadata["stop"]["exit_status"] == "success"
        assert found[-1].metadata["stop"]["exit_status"] == "success"


def test_a_live_run_gets_streams(tmp_path: Path) -> None:
    begun = make.start()
    with closing(Broker(tmp_path / "runs")) as broker:
        broker.insert("start", begun)
        run = intake.open_filebroker(tmp_path / "runs")[-1]
        assert list(run) == []
        described = make.descriptor(begun)
        broker.insert("descriptor", described)
        assert list(run) == ["primary"]
        assert run.primary.read().columns.tolist() == ["seq_num", "time", "det"]
        broker.insert("event", make.event(described, 1))
        assert run.primary.read()["det"].tolist() == [0.5]


_RECORDS = """
import sys
import factories as make
from filebroker import Broker
broker = Broker(sys.argv[1])
for pair in make.run(2, scan_id=int(sys.argv[2]), time=make.T0 + 1e6, sample="of another process"):
    broker.insert(*pair)
broker.close()
"""


def test_runs_of_other_processes_are_found(tmp_path: Path) -> None:
    place = small(tmp_path / "runs", 1, 2)
    found = intake.open_filebroker(place)
    searched = found.search("another process")
    assert (len(found), len(searched)) == (2, 0)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    subprocess.run([sys.executable, "-c", _RECORDS, place, "3"], check=True, env=environment, timeout=60)
    assert (len(found), len(searched)) == (3, 1)
    assert found[-1].metadata["start"]["scan_id"] == found[3].metadata["start"]["scan_id"] == 3
    assert uids(found)[0] == uids(searched)[0] == next(iter(found))
    assert found.to_dataframe(["scan_id"])["scan_id"].tolist() == [3, 2, 1]
    assert len(found.recent) == 3


def test_runs_that_were_copied_by_hand_are_found_after_a_reload(tmp_path: Path) -> None:
    place = small(tmp_path / "runs", 1)
    other = small(tmp_path / "others", 2)
    found = intake.open_filebroker(place)
    parent = intake.open_catalog(written(tmp_path / "p.yml", here={"args": {"url": place}})).here
    assert len(found) == len(parent) == 1
    for path in Path(other).rglob("*"):
        target = Path(place) / path.relative_to(other)
        if (
            path.is_file()
            and path.name != "filebroker.json"
            and "_ledger" not in str(path)
            and "_live" not in str(path)
        ):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    found.force_reload()
    assert len(found) == 2
    parent.reload()
    assert found[2].uid == parent[2].uid


def test_a_run_stays_the_one_that_was_found_when_newer_ones_come(tmp_path: Path) -> None:
    place = small(tmp_path / "runs", 1)
    found = intake.open_filebroker(place)
    run, asked, parent = found[-1], intake.open_filebroker_run(place, run=-1), found[1]
    first = run.uid
    assert asked.metadata["start"]["uid"] == first
    primary = asked.primary
    with closing(Broker(place)) as broker:
        second = record(broker, make.run(3, scan_id=1, time=make.T0 + 1e6))
    assert found[-1].uid == found[1].uid == second
    assert run.uid == parent.uid == asked.uid == first
    for stream in (run.primary, parent.primary, primary, asked.primary, pickle.loads(pickle.dumps(asked.primary))):
        assert stream.metadata["start"]["uid"] == first
        assert len(stream.read()) == 2
    assert len(run.v1.table()) == 2
    assert pickle.loads(pickle.dumps(run)).uid == first
    assert intake.open_filebroker_run(place, run=-1).uid == second


# ------------------------------------------------------------------------------------- parents


def test_a_parents_walk_and_search_open_no_run(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = {"description": "Runs of hall A", "args": {"url": place}}
    other = {"driver": "csv", "description": "needle", "args": {"urlpath": "a.csv"}}
    inner = written(tmp_path / "inner.yml", deep=described)
    nested = {"driver": "yaml_file_cat", "args": {"path": inner}}
    parent = intake.open_catalog(written(tmp_path / "p.yml", here=described, table=other, inner=nested))

    def fail(*_: Any) -> Any:
        raise AssertionError("a run was opened")

    monkeypatch.setattr(Run, "__init__", fail)
    assert set(parent.walk(depth=9)) == {"here", "table", "inner", "inner.deep"}
    assert list(parent.search("needle")) == ["table"]
    assert set(parent.search("hall")) == {"here", "inner.deep"}
    assert type(parent.search("hall")["here"]) is IntakeCatalog
    assert len(parent.search("hall").here) == 32
    assert list(parent.filter(lambda entry: "hall" in str(entry.describe()))) == ["here"]
    assert dict(parent.items())["here"] == parent.here


def test_a_catalog_is_an_entry_of_a_parent_made_by_hand(catalog: IntakeCatalog) -> None:
    parent = Catalog.from_dict({"here": catalog, "lab6": catalog.search("LaB6")}, name="parent")
    assert list(parent) == ["here", "lab6"]
    assert parent["here"][-1] == catalog[-1]
    assert parent["here", 7, "primary"] == catalog[7].primary
    assert parent["lab6"] == catalog.search("LaB6")
    run = Catalog.from_dict({"run": catalog[7], "stream": catalog[7].primary})
    assert run["run"] == catalog[7]
    assert run["stream"] == catalog[7].primary
    assert len(run["stream"].read()) == 2


def test_several_catalog_files_are_opened_at_once(place: str, tmp_path: Path) -> None:
    written(tmp_path / "c" / "a.yml", a={"args": {"url": place}})
    written(tmp_path / "c" / "b.yml", b={"args": {"url": place, "search": "LaB6"}})
    for path in (f"{tmp_path}/c/*.yml", [f"{tmp_path}/c/a.yml", f"{tmp_path}/c/b.yml"]):
        parent = intake.open_catalog(path)
        assert sorted(parent) == ["a", "b"]
        assert (len(parent.a), len(parent.b)) == (32, 16)


def test_a_filter_and_what_would_change_a_catalog_are_refused(catalog: IntakeCatalog) -> None:
    asks: list[Callable[[], Any]] = [
        lambda: catalog.filter(lambda entry: True),
        lambda: catalog.pop(-1),
        lambda: catalog.__setitem__("x", None),
        lambda: catalog[-1].pop("primary"),
        lambda: catalog[-1].__setitem__("x", None),
    ]
    for ask in asks:
        with pytest.raises(NotSupported):
            ask()
    assert catalog.walk() == {}
    assert catalog.walk({"x": 1}) == {"x": 1}


# ------------------------------------------------------------------------------------- copies


def sources(catalog: IntakeCatalog) -> dict[str, Any]:
    """Give sources of every kind."""
    run = catalog["dotted.uid.of.a.run"]
    return {
        **{
            "catalog": catalog,
            "limited": catalog(limit=3, labels=True),
            "search": catalog.search("LaB6", num={"$gt": 3}),
        },
        **{"twice": catalog.search("LaB6").search({"plan_name": "scan"}, since="2025"), "recent": catalog.recent},
        **{"run": run, "newest": catalog[-1], "stream": run.primary, "columns": run.primary(columns=["det"])},
    }


KINDS = ["catalog", "limited", "search", "twice", "recent", "run", "newest", "stream", "columns"]


def content(source: Any) -> Any:
    """Give what is in a source, to compare it with that of others."""
    if isinstance(source, IntakeStream):
        return source.read().to_dict("list")
    if isinstance(source, IntakeRun):
        return source.metadata
    return list(source)


@pytest.mark.parametrize("kind", KINDS)
def test_pickles_are_equal_and_small(catalog: IntakeCatalog, kind: str) -> None:
    source = sources(catalog)[kind]
    pickled = pickle.dumps(source)
    again = pickle.loads(pickled)
    assert again == source
    assert hash(again) == hash(source)
    assert again.name == source.name
    assert content(again) == content(source)
    assert pickle.loads(pickle.dumps(again)) == source  # after it was used
    assert len(pickled) < 2000
    assert len({source, again, copy.copy(source), copy.deepcopy(source)}) == 1
    for other, made in sources(catalog).items():
        assert (made == source) == (other == kind)


@pytest.mark.parametrize("kind", KINDS)
def test_dask_tells_sources_apart_without_looking_at_runs(
    catalog: IntakeCatalog, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = pytest.importorskip("dask.base")
    source = sources(catalog)[kind]
    others = [base.tokenize(other) for name, other in sources(catalog).items() if name != kind]
    again = pickle.loads(pickle.dumps(source))

    def fail(*_: Any) -> Any:
        raise AssertionError("runs were looked at")

    for name in ("documents", "__iter__", "__len__", "lookup"):
        monkeypatch.setattr(f"filebroker.cataloging.runs.Runs.{name}", fail)
    monkeypatch.setattr(Run, "__init__", fail)
    assert base.tokenize(source) == base.tokenize(again)
    assert base.tokenize(source) not in others
    assert hash(source) == hash(again)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_opened_again(catalog: IntakeCatalog, kind: str, tmp_path: Path) -> None:
    source = sources(catalog)[kind]
    source.name = "kept"
    source.description = "one: two # three"
    (tmp_path / "a.yml").write_text(source.yaml())
    files = [str(tmp_path / "a.yml")]
    if isinstance(source, Catalog):
        source.save(str(tmp_path / "b.yml"))
        files.append(str(tmp_path / "b.yml"))
    for file in files:
        parent = intake.open_catalog(file)
        assert list(parent) == ["kept"]
        assert parent.kept == source
        assert parent.kept.description == "one: two # three"
        assert content(parent.kept) == content(source)
        parent.save(str(tmp_path / "again.yml"))
        assert intake.open_catalog(str(tmp_path / "again.yml")).kept == source
    if isinstance(source, IntakeCatalog):
        configurations = Path(os.environ["HOME"]) / ".config" / "filebroker"
        configurations.mkdir(parents=True)
        (configurations / "a.yml").write_text(source.yaml())
        named = Broker.named("kept")
        assert [header.start["uid"] for header in named()][: len(source)] == uids(source)


@pytest.mark.filterwarnings("ignore:Shell command not executed")
def test_a_parent_is_saved_with_what_is_in_it(place: str, tmp_path: Path) -> None:
    arguments = {"url": "{{ CATALOG_DIR }}/runs", "search": {"operator": "{{ operator }}"}}
    parameters = {"operator": {"type": "str", "description": "Who", "default": "Ana"}}
    file = written(
        Path(place).parent / "p.yml", chosen={"args": arguments, "parameters": parameters}, all={"args": {"url": place}}
    )
    parent = intake.open_catalog(file)
    parent.save(str(tmp_path / "other.yml"))
    again = intake.open_catalog(str(tmp_path / "other.yml"))
    assert set(again) == {"chosen", "all"}
    assert again.all == parent.all
    for opened in (parent, pickle.loads(pickle.dumps(parent))):
        assert list(opened.chosen(operator="Bert")) == list(opened.all.search(operator="Bert"))
    Path(file).unlink()


def test_sources_are_added_to_a_catalog_file(catalog: IntakeCatalog, tmp_path: Path) -> None:
    parent = intake.open_catalog(written(tmp_path / "p.yml", here={"args": {"url": catalog.url}}))
    found = catalog.search("LaB6")
    found.name = "lab6"
    parent.add(found)
    again = intake.open_catalog(str(tmp_path / "p.yml"))
    assert set(again) == {"here", "lab6"}
    assert list(again.lab6) == list(found)


# ------------------------------------------------------------------------------------- streams


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the directory of a catalog with long and short streams, of values of all kinds."""
    path = str(tmp_path_factory.mktemp("tables") / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Recorder.__init__.__kwdefaults__, "segment_documents", 10)
        with closing(Broker(path)) as broker:
            for rows in (1, 45, 0):
                record(broker, table_documents(rows))
    return path


def table_documents(rows: int) -> list[make.Pair]:
    kinds = {"det": "number", "count": "integer", "shutter": "string", "flag": "boolean", "image": "array"}
    begun = make.start(scan_id=rows, time=make.T0 + rows)
    described = make.descriptor(begun, kinds)
    events = [
        (
            "event",
            make.event(
                described,
                row,
                {
                    **{"det": row / 7, "count": row, "shutter": ("open", "shut")[row % 2], "flag": row % 3 == 0},
                    **{"image": [row, row + 1, row + 2]},
                },
            ),
        )
        for row in range(1, rows + 1)
    ]
    return [("start", begun), ("descriptor", described), *events, ("stop", make.stop(begun))]


@pytest.mark.parametrize("rows", [0, 1, 45])
def test_a_stream_reads_what_the_table_has(tables: str, rows: int) -> None:
    stream = intake.open_filebroker(tables)[rows].primary
    with closing(Broker(tables, read_only=True)) as broker:
        table, dataset = broker[rows].table(), broker.v2[rows].primary.read()
    frame = stream.read()
    fields = ["det", "count", "shutter", "flag", "image"]
    assert frame.columns.tolist() == ["seq_num", "time", *fields]
    assert frame["seq_num"].tolist() == [*range(1, rows + 1)]
    for name in fields if rows else []:
        assert [list(value) if name == "image" else value for value in frame[name]] == [
            list(value) if name == "image" else value for value in table[name]
        ]
    assert frame["time"].tolist() == dataset["time"].values.tolist()
    assert stream.to_xarray().equals(dataset)
    assert stream.discover()["shape"] == stream.shape == (rows, 7)


def test_each_page_is_a_partition(tables: str) -> None:
    stream = intake.open_filebroker(tables)[45].primary
    info = stream.discover()
    assert info["npartitions"] == stream.npartitions > 2
    assert info["shape"] == (45, 7)
    assert list(info["dtype"]) == stream.read().columns.tolist()
    parts = [stream.read_partition(number) for number in range(stream.npartitions)]
    whole = stream.read()
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)
    pd.testing.assert_frame_equal(pd.concat(list(stream.read_chunked()), ignore_index=True), whole)
    assert {str(name): str(kind) for name, kind in whole.dtypes.items()} == dict(info["dtype"])
    assert all(part.dtypes.to_dict() == whole.dtypes.to_dict() for part in parts)
    for number in (stream.npartitions, -1):
        with pytest.raises(IndexError):
            stream.read_partition(number)


def test_dask_reads_the_same(tables: str) -> None:
    pytest.importorskip("dask")
    for rows in (0, 1, 45):
        stream = intake.open_filebroker(tables)[rows].primary
        table = stream.to_dask()
        assert table.npartitions == stream.discover()["npartitions"] == stream.npartitions
        computed = table.compute(scheduler="synchronous").reset_index(drop=True)
        pd.testing.assert_frame_equal(computed, stream.read())
        assert table.dtypes.to_dict() == computed.dtypes.to_dict()
        total = stream(columns="det").to_dask()["det"].sum().compute(scheduler="synchronous")
        assert total == pytest.approx(stream.read()["det"].sum())


@pytest.mark.parametrize("columns", ["det", ["det"], ["count", "det"], ("image",), []])
def test_columns_are_chosen(tables: str, columns: Any) -> None:
    names = [columns] if isinstance(columns, str) else list(columns)
    stream = intake.open_filebroker_stream(tables, run=45, columns=columns)
    whole = intake.open_filebroker_stream(tables, run=45).read()
    expected = whole[["seq_num", "time", *names]]
    pd.testing.assert_frame_equal(stream.read(), expected)
    pd.testing.assert_frame_equal(stream.to_dask().compute(scheduler="synchronous").reset_index(drop=True), expected)
    pd.testing.assert_frame_equal(pd.concat(list(stream.read_chunked()), ignore_index=True), expected)
    assert stream.discover()["shape"] == (45, 2 + len(names))
    assert set(stream.to_xarray().data_vars) == set(names)


def test_a_stream_is_subscripted_by_its_columns(tables: str) -> None:
    stream = intake.open_filebroker(tables)[45].primary
    assert stream["det"] == stream[["det"]] == stream(columns=["det"])
    assert intake.open_filebroker_stream(tables, run=45)["det"].read().equals(stream["det"].read())
    assert intake.open_filebroker(tables)[45, "primary", ["det", "count"]] == stream[["det", "count"]]
    with pytest.raises(UnknownField, match="nothing"):
        stream["nothing"]


@pytest.mark.parametrize("columns", [["nothing"], "nothing", ["det", "nothing"]])
def test_a_column_that_is_not_there_is_named(tables: str, columns: Any) -> None:
    stream = intake.open_filebroker_stream(tables, run=45, columns=columns)
    for ask in (stream.read, stream.discover, stream.to_dask, lambda: stream.read_partition(0)):
        with pytest.raises(UnknownField, match="nothing"):
            ask()
    with pytest.raises((UnknownField, KeyError), match="nothing"):
        stream.to_xarray()
    assert "nothing" in repr(stream)


@pytest.mark.parametrize("columns", [5, [5], {"det": 1}.values(), [None]])
def test_columns_are_names(tables: str, columns: Any) -> None:
    with pytest.raises((InvalidOption, InvalidConfig), match="columns"):
        intake.open_filebroker_stream(tables, run=45, columns=columns)


def test_a_stream_that_is_not_there_is_named(tables: str) -> None:
    stream = intake.open_filebroker_stream(tables, run=45, stream="nothing")
    for ask in (stream.read, stream.discover, stream.to_dask, stream.to_xarray, lambda: stream.metadata):
        with pytest.raises(UnknownStream, match="nothing"):
            ask()
    assert "nothing" in repr(stream)


def test_a_stream_is_closed_and_opened_again(tables: str) -> None:
    stream = intake.open_filebroker(tables)[45].primary
    with stream as opened:
        assert opened.read().shape == (45, 7)
    stream.close()
    assert stream.read().shape == (45, 7)


def test_streams_that_are_named_in_yaml_are_read(tables: str, tmp_path: Path) -> None:
    arguments = {"url": tables, "run": 45, "stream": "primary", "columns": ["det"]}
    stream = {"driver": "filebroker_stream", "args": arguments}
    run = {"driver": "filebroker_run", "args": {"url": tables, "run": "{{ number }}"}}
    run["parameters"] = {"number": {"type": "int", "description": "scan_id", "default": 45}}
    parent = intake.open_catalog(written(tmp_path / "p.yml", det=stream, run=run))
    assert parent.det.read().shape == (45, 3)
    assert parent.run.primary.read().shape == (45, 7)
    assert parent.run(number=1).primary.read().shape == (1, 7)
    assert parent["run", "primary"].read().shape == parent["run.primary"].read().shape == (45, 7)
