"""What databroker v1's module and `Broker` promise: configuration, insertion, lookups, loading of many runs."""

import copy
import inspect
from types import GeneratorType

import numpy as np
import pandas as pd
import pytest

import factories
import filebroker
from factories import T0
from filebroker import (
    ALL,
    Broker,
    DeprecatedDoct,
    Header,
    describe_configs,
    list_configs,
    lookup_config,
    temp,
    temp_config,
    wrap_in_deprecated_doct,
    wrap_in_doct,
)


@pytest.fixture
def db():
    broker = temp()
    yield broker
    broker.close()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home directory, and in it the directory of databroker's configuration."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    directory = tmp_path / ".config" / "databroker"
    directory.mkdir(parents=True)
    return directory


def insert(db, documents):
    """Insert documents; give the uid of their run."""
    for name, doc in documents:
        db.insert(name, doc)
    return documents[0][1]["uid"]


def fill(db, count, **keys):
    """Insert runs that began a minute after each other; give their uids, oldest first."""
    return [insert(db, factories.run(rows=2, time=T0 + 60 * number, scan_id=number, **keys)) for number in range(count)]


def uids(headers):
    return [header.uid for header in headers]


# -- module


def test_public_names_of_databroker():
    assert {"Broker", "Header", "ALL", "temp", "list_configs", "lookup_config", "describe_configs"} <= set(
        dir(filebroker)
    )
    assert inspect.isclass(ALL)
    assert inspect.signature(Header.documents).parameters["stream_name"].default is ALL
    assert callable(wrap_in_doct)
    assert callable(wrap_in_deprecated_doct)
    assert issubclass(DeprecatedDoct, dict)


def test_temp_is_empty():
    db = temp()
    assert isinstance(db, Broker)
    assert list(db()) == []


def test_each_temp_is_independent():
    one, other = temp(), temp()
    uid = insert(one, factories.run())
    assert uids(one()) == [uid]
    assert list(other()) == []


def test_temp_config_is_not_implemented():
    with pytest.raises(NotImplementedError):
        temp_config()


def test_named_temp_is_as_temp():
    one, other = Broker.named("temp"), Broker.named("temp")
    insert(one, factories.run())
    assert list(other()) == []


# -- configuration


def test_configurations_are_listed_by_name(home):
    for name in ("zebra", "ant", "_legacy_config"):
        (home / f"{name}.yml").write_text("path: /data\n")
    names = list_configs()
    assert names == sorted(names)
    assert {"ant", "zebra"} <= set(names)
    assert "_legacy_config" not in names


def test_paths_replace_the_usual_places(home, tmp_path):
    (home / "usual.yml").write_text("path: /data\n")
    (tmp_path / "special.yml").write_text("path: /data\n")
    assert list_configs(paths=[str(tmp_path)]) == ["special"]


def test_duplicate_name_is_warned_of(tmp_path):
    for directory in ("first", "second"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "twice.yml").write_text(f"path: /data/{directory}\n")
    with pytest.warns(UserWarning, match="twice"):
        assert list_configs(paths=[str(tmp_path / "first"), str(tmp_path / "second")]) == ["twice"]


def test_own_configuration_wins_over_the_shipped_one(home, tmp_path):
    (home / "example.yml").write_text(f"path: {tmp_path / 'mine'}\n")
    assert lookup_config("example") == {"path": str(tmp_path / "mine")}
    assert list(Broker.named("example")()) == []


def test_configurations_are_described(home):
    (home / "told.yml").write_text("description: Beamtime of November\npath: /data\n")
    (home / "untold.yml").write_text("path: /data\n")
    described = describe_configs()
    assert described["told"] == "Beamtime of November"
    assert described["untold"] is None


def test_configuration_is_looked_up(home):
    (home / "mine.yml").write_text("description: Mine\npath: /data/mine\n")
    expected = {"description": "Mine", "path": "/data/mine"}
    assert lookup_config("mine") == expected
    assert lookup_config("mine.yml") == expected


def test_unknown_configuration_names_the_file_and_all_places(home):
    with pytest.raises(FileNotFoundError) as raised:
        lookup_config("no_such_name")
    message = str(raised.value)
    assert "no_such_name.yml" in message
    assert str(home) in message
    assert "/etc/databroker" in message


def test_named_broker_has_its_name(home, tmp_path):
    (home / "mine.yml").write_text(f"path: {tmp_path / 'runs'}\n")
    db = Broker.named("mine")
    assert db.name == "mine"
    uid = insert(db, factories.run())
    assert uids(Broker.named("mine")()) == [uid]


def test_unknown_name_is_an_attribute_error(home):
    with pytest.raises(AttributeError, match="no_such_name"):
        Broker.named("no_such_name")


# -- the broker itself


def test_v1_is_the_broker_itself(db):
    assert db.v1 is db


def test_broker_is_true_and_has_no_length(db):
    assert db
    with pytest.raises(TypeError):
        len(db)


@pytest.mark.parametrize("name", ["mds", "assets", "hs", "event_sources", "event_source_for_insert", "no_such_name"])
def test_what_is_gone_since_version_0_is_an_attribute_error(db, name):
    with pytest.raises(AttributeError):
        getattr(db, name)


# -- insertion


def test_run_is_found_by_every_lookup_at_once_after_its_stop(db):
    documents = factories.run(scan_id=7, sample="LaB6")
    uid = insert(db, documents)
    for header in (db[-1], db[7], db[uid], db[uid[:6]], db[-1:][0], *db(), *db(sample="LaB6")):
        assert header.uid == uid
        assert header.stop["uid"] == documents[-1][1]["uid"]


def test_every_inserted_run_is_found_at_once(db):
    for number in range(10):
        uid = insert(db, factories.run(rows=1, time=T0 + number, scan_id=number))
        assert db[-1].uid == db[number].uid == db[uid].uid == uid
        assert len(list(db())) == number + 1


def with_numpy_everywhere():
    """Every kind of document with numpy values in it, and the array in each that is checked."""
    begun = factories.start(mask=np.ones((3, 3)), nested={"deep": {"mask": np.array([1, 2, 3])}}, number=np.int64(3))
    described = factories.descriptor(
        begun,
        {"det": factories.data_key("array", shape=(3, 3))},
        configuration={"det": {"data": {"thing": np.ones((3, 3))}, "timestamps": {"thing": 0.0}, "data_keys": {}}},
    )
    data = {"det": np.ones((3, 3))}
    event = factories.event(described, 1, data)
    page = factories.event_page(described, [2, 3], {"det": np.ones((2, 3, 3))})
    end = factories.stop(begun, {"primary": np.int32(3)}, stuff=np.ones(3), flag=np.bool_(True))
    pairs = [("start", begun), ("descriptor", described), ("event", event), ("event_page", page), ("stop", end)]
    arrays = [
        begun["mask"],
        begun["nested"]["deep"]["mask"],
        described["configuration"]["det"]["data"]["thing"],
        event["data"]["det"],
        page["data"]["det"],
        end["stuff"],
    ]
    return pairs, arrays


def test_numpy_is_taken_in_every_document(db):
    pairs, _ = with_numpy_everywhere()
    header = db[insert(db, pairs)]
    assert np.array_equal(header.start["mask"], np.ones((3, 3)))
    assert np.array_equal(header.start["nested"]["deep"]["mask"], [1, 2, 3])
    assert header.start["number"] == 3
    assert np.array_equal(header.config_data("det")["primary"][0]["thing"], np.ones((3, 3)))
    assert [np.array_equal(value, np.ones((3, 3))) for value in header.data("det")] == [True] * 3
    assert np.array_equal(header.stop["stuff"], np.ones(3))
    assert header.stop["num_events"] == {"primary": 3}


def test_the_documents_of_the_caller_never_change(db):
    pairs, arrays = with_numpy_everywhere()
    before = copy.deepcopy(pairs)
    insert(db, pairs)
    assert repr(pairs) == repr(before)
    for array in arrays:
        assert isinstance(array, np.ndarray)


def test_documents_may_be_changed_by_the_caller_after_insertion(db):
    begun = factories.start(sample={"name": "LaB6"})
    described = factories.descriptor(begun)
    event = factories.event(described, 1, {"det": 0.5})
    for name, doc in [("start", begun), ("descriptor", described), ("event", event)]:
        db.insert(name, doc)
    begun["sample"]["name"] = event["data"]["det"] = "changed"
    described["data_keys"].clear()
    db.insert("stop", factories.stop(begun))
    header = db[begun["uid"]]
    assert header.start["sample"]["name"] == "LaB6"
    assert header.fields() == {"det"}
    assert list(header.data("det")) == [0.5]


def test_bulk_events_are_stored_with_a_warning(db):
    begun = factories.start()
    described = factories.descriptor(begun)
    events = [factories.event(described, number) for number in (1, 2, 3)]
    insert(db, [("start", begun), ("descriptor", described)])
    with pytest.warns(UserWarning, match="bulk_events"):
        db.insert("bulk_events", {described["uid"]: events})
    db.insert("stop", factories.stop(begun))
    assert [dict(event) for event in db[-1].events()] == events


def test_bulk_datum_is_stored_with_a_warning(db):
    begun = factories.start()
    held = factories.resource(begun)
    insert(db, [("start", begun), ("resource", held)])
    bulk = {
        "resource": held["uid"],
        "datum_ids": [f"{held['uid']}/0", f"{held['uid']}/1"],
        "datum_kwarg_list": [{"index": 0}, {"index": 1}],
    }
    with pytest.warns(UserWarning, match="bulk_datum"):
        db.insert("bulk_datum", bulk)
    db.insert("stop", factories.stop(begun))
    datums = [dict(doc) for name, doc in db[-1].documents() if name == "datum"]
    assert datums == [factories.datum(held, 0), factories.datum(held, 1)]


def test_insertion_without_a_writer_is_a_runtime_error(tmp_path):
    writer = Broker(tmp_path)
    insert(writer, factories.run())
    with pytest.raises(RuntimeError):
        Broker(tmp_path, read_only=True).insert("start", factories.start())


def test_document_before_its_run_is_a_key_error(db):
    begun = factories.start()
    described = factories.descriptor(begun)
    for name, doc in [
        ("descriptor", described),
        ("event", factories.event(described)),
        ("stop", factories.stop(begun)),
    ]:
        with pytest.raises(KeyError):
            db.insert(name, doc)
    assert list(db()) == []


def test_other_start_of_the_same_uid_is_a_file_exists_error(db):
    documents = factories.run()
    insert(db, documents)
    with pytest.raises(FileExistsError):
        db.insert("start", documents[0][1] | {"sample": "another"})


# -- lookups: integers


def test_negative_integer_counts_from_the_newest(db):
    expected = fill(db, 4)
    assert [db[-number].uid for number in (1, 2, 3, 4)] == expected[::-1]


def test_newest_is_by_start_time_not_by_insertion(db):
    late = insert(db, factories.run(time=T0 + 100))
    early = insert(db, factories.run(time=T0))
    assert [db[-1].uid, db[-2].uid] == [late, early]


@pytest.mark.parametrize("key", [-4, -100, "-4", slice(-4, None)])
def test_further_back_than_there_are_runs_is_an_index_error(db, key):
    fill(db, 3)
    with pytest.raises(IndexError, match=r"Catalog only contains 3 runs\."):
        db[key]


def test_newest_of_nothing_is_an_index_error(db):
    with pytest.raises(IndexError, match=r"Catalog only contains 0 runs\."):
        db[-1]


def test_scan_id_gives_the_newest_run_of_that_number(db):
    old = insert(db, factories.run(scan_id=5, time=T0, marked=True))
    new = insert(db, factories.run(scan_id=5, time=T0 + 1))
    assert db[5].uid == new
    assert uids(db(scan_id=5, marked=True)) == [old]


def test_zero_is_a_scan_id_as_any_other(db):
    first, *_ = fill(db, 3)
    assert db[0].uid == first


@pytest.mark.parametrize("key", [4500, "4500", np.int64(4500)])
def test_unknown_scan_id_is_a_key_error(db, key):
    fill(db, 3)
    with pytest.raises(KeyError, match="4500"):
        db[key]


def test_run_without_scan_id_is_passed_over(db):
    expected = insert(db, factories.run(scan_id=5))
    begun = factories.start(time=T0 + 10)
    del begun["scan_id"]
    insert(db, [("start", begun), ("stop", factories.stop(begun))])
    assert db[5].uid == expected


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.int8])
def test_numpy_integers_are_integers(db, kind):
    expected = fill(db, 3)
    assert db[kind(-1)].uid == expected[-1]
    assert db[kind(1)].uid == expected[1]


# -- lookups: strings


def test_digits_are_read_as_an_integer(db):
    expected = fill(db, 3)
    assert db["1"].uid == expected[1]
    assert db["-1"].uid == expected[-1]


def test_complete_uid_of_digits_is_found(db):
    uid = insert(db, factories.run(uid="12345678", scan_id=1))
    insert(db, factories.run(scan_id=12345678))
    assert db[uid].uid == "12345678"


def test_uid_and_unique_prefix(db):
    one = insert(db, factories.run(uid="aaaaaabbbbbb"))
    other = insert(db, factories.run(uid="bbbbbbaaaaaa"))
    assert db["aaaaaabbbbbb"].uid == db["aaaaaa"].uid == db["a"].uid == one
    assert db["bbbbbbaaaaaa"].uid == db["bbbbbb"].uid == db["b"].uid == other


def test_complete_uid_wins_over_longer_ones(db):
    short = insert(db, factories.run(uid="abc"))
    long = insert(db, factories.run(uid="abcdef"))
    assert db["abc"].uid == short
    assert db["abcd"].uid == long


def test_ambiguous_prefix_is_a_value_error_that_lists_the_uids(db):
    for uid in ("abcd1", "abcd2", "other"):
        insert(db, factories.run(uid=uid))
    with pytest.raises(ValueError, match=r"(?s)abcd1.*abcd2|abcd2.*abcd1") as raised:
        db["abc"]
    assert "other" not in str(raised.value)


@pytest.mark.parametrize("key", ["abx", "ABC", "bcd", "abcdefg"])
def test_unknown_uid_is_a_key_error(db, key):
    insert(db, factories.run(uid="abcdef"))
    with pytest.raises(KeyError, match=key):
        db[key]


def test_empty_string_begins_every_uid(db):
    with pytest.raises(KeyError):
        db[""]
    uid = insert(db, factories.run())
    assert db[""].uid == uid
    insert(db, factories.run())
    with pytest.raises(ValueError, match=uid):
        db[""]


# -- lookups: slices and iterables


@pytest.mark.parametrize(
    ("key", "positions"),
    [
        (slice(-3, None), [4, 3, 2]),
        (slice(-5, None), [4, 3, 2, 1, 0]),
        (slice(-1, None), [4]),
        (slice(-2, 0), [4, 3]),
        (slice(-2, -1), [3]),
        (slice(-5, -1), [3, 2, 1, 0]),
        (slice(-5, None, 2), [4, 2, 0]),
        (slice(-1, -3), []),
        (slice(-2, -2), []),
    ],
)
def test_slice_gives_a_list_newest_first(db, key, positions):
    expected = fill(db, 5)
    headers = db[key]
    assert isinstance(headers, list)
    assert uids(headers) == [expected[position] for position in positions]


@pytest.mark.parametrize("key", [slice(None), slice(None, -5), slice(1, None), slice(0, None), slice(-1, 2)], ids=str)
def test_slice_from_the_oldest_run_is_a_value_error(db, key):
    fill(db, 5)
    with pytest.raises(ValueError, match=":"):
        db[key]


def test_iterables_of_keys_give_lists(db):
    expected = fill(db, 3)
    assert uids(db[expected]) == expected
    assert uids(db[tuple(expected)]) == expected
    assert set(uids(db[set(expected)])) == set(expected)
    assert uids(db[range(3)]) == expected
    assert uids(db[np.array([2, 0])]) == [expected[2], expected[0]]
    assert uids(db[iter([-1, "1", expected[0]])]) == expected[::-1]
    assert db[[]] == []


def test_nested_iterables_of_keys_give_nested_lists(db):
    expected = fill(db, 3)
    first, rest = db[[0, [1, 2]]]
    assert first.uid == expected[0]
    assert uids(rest) == expected[1:]


def test_first_failing_key_of_an_iterable_raises(db):
    fill(db, 2)
    with pytest.raises(KeyError, match="4500"):
        db[[0, 4500, -100]]
    with pytest.raises(IndexError):
        db[[0, -100, 4500]]


def test_none_is_a_type_error(db):
    with pytest.raises(TypeError):
        db[None]


# -- lookups: runs of others


def test_runs_of_another_writer_are_found(tmp_path):
    writer = Broker(tmp_path)
    insert(writer, factories.run(scan_id=1))
    reader = Broker(tmp_path)
    assert reader[-1].start["scan_id"] == 1
    with pytest.raises(KeyError):
        reader["abc"]
    uid = insert(writer, factories.run(uid="abcdef", scan_id=2, time=T0 + 1))
    assert reader[-1].uid == reader["abc"].uid == reader[2].uid == uid
    assert len(list(reader())) == 2


# -- searches by equality and words


def test_results_are_repeatable_and_only_that(db):
    expected = fill(db, 3)
    results = db()
    assert uids(results) == uids(results) == expected[::-1]
    assert list(results) == list(results)
    with pytest.raises(TypeError):
        results[0]
    with pytest.raises(TypeError):
        next(results)


def test_results_are_lazy(db):
    results = db(plan_name="count")
    expected = fill(db, 2)
    assert uids(results) == expected[::-1]


def test_search_for_values(db):
    lab6 = insert(db, factories.run(sample={"name": "LaB6"}, motors=["x", "y"]))
    insert(db, factories.run(sample={"name": "Si"}, motors=["z"]))
    assert uids(db(**{"sample.name": "LaB6"})) == uids(db(motors="y")) == uids(db(motors=["x", "y"])) == [lab6]
    assert uids(db(sample={"name": "LaB6"}, motors="x")) == [lab6]
    assert list(db(motors="z", **{"sample.name": "LaB6"})) == []


def test_search_is_no_prefix_match_of_uids(db):
    insert(db, factories.run(uid="aaaabbbb"))
    assert list(db(uid="aaaa")) == []
    assert uids(db(uid="aaaabbbb")) == ["aaaabbbb"]


def test_search_for_words_is_in_values_not_in_keys(db):
    uid = insert(db, factories.run(foo="some words", deep=[{"er": "hidden"}]))
    insert(db, factories.run())
    assert uids(db("some words")) == uids(db("words")) == uids(db(text_search="WORDS")) == uids(db("hidden")) == [uid]
    assert list(db("foo")) == list(db("er")) == []


# -- loading of many runs


@pytest.fixture
def pair(db):
    """Two runs of two events each, oldest first."""
    fill(db, 2)
    return db[[0, 1]]


FORMS = [list, tuple, iter, lambda headers: (header for header in headers)]


@pytest.mark.parametrize("form", FORMS, ids=["list", "tuple", "iterator", "generator"])
def test_headers_may_be_any_iterable(db, pair, form):
    assert len(list(db.get_events(form(pair)))) == 4
    assert len(list(db.get_documents(form(pair)))) == 10
    assert len(db.get_table(form(pair))) == 4
    assert len(list(db.restream(form(pair)))) == 10


def test_headers_may_be_results_or_one_header(db, pair):
    for headers, runs in ((db(), 2), (pair[0], 1)):
        assert len(list(db.get_events(headers))) == 2 * runs
        assert len(list(db.get_documents(headers))) == 5 * runs
        assert len(db.get_table(headers)) == 2 * runs


def test_get_documents_is_header_documents(db, pair):
    pairs = db.get_documents(pair[0])
    assert isinstance(pairs, GeneratorType)
    assert list(pairs) == list(pair[0].documents())
    assert [name for name, _ in db.get_documents(pair[0], "no_such_stream")] == ["start", "stop"]
    assert [name for name, _ in db.get_documents(pair[0], ALL, ["no_such_field"])] == ["start", "descriptor", "stop"]


def two_streams():
    begun = factories.start()
    primary = factories.descriptor(begun, ["det"])
    baseline = factories.descriptor(begun, ["motor"], name="baseline")
    return [
        *[("start", begun), ("descriptor", baseline), ("event", factories.event(baseline, 1))],
        *[("descriptor", primary), ("event", factories.event(primary, 1)), ("event", factories.event(primary, 2))],
        *[("event", factories.event(baseline, 2, time=T0 + 50)), ("stop", factories.stop(begun))],
    ]


def test_get_events_gives_the_primary_stream_unless_told(db):
    header = db[insert(db, two_streams())]
    assert [list(event["data"]) for event in db.get_events(header)] == [["det"]] * 2
    assert [list(event["data"]) for event in db.get_events(header, stream_name="baseline")] == [["motor"]] * 2
    assert len(list(db.get_events(header, stream_name=ALL))) == 4
    assert list(db.get_events(header, stream_name="no_such_stream")) == []
    assert isinstance(db.get_events(header), GeneratorType)


def test_get_events_of_some_fields(db):
    one, other = insert(db, factories.run(7, ["det1"])), insert(db, factories.run(3, ["det2"]))
    headers = db[[one, other]]
    assert len(list(db.get_events(headers, fields=["det1"]))) == 7
    assert len(list(db.get_events(headers, fields=["det2"]))) == 3
    assert len(list(db.get_events(headers, fields=["det."]))) == 10


def test_get_fields(db):
    header = db[insert(db, two_streams())]
    assert db.get_fields(header) == Broker.get_fields(header) == {"det", "motor"}
    assert db.get_fields(header, name="primary") == {"det"}
    assert db.get_fields(header, name="no_such_stream") == set()


@pytest.mark.parametrize("method", ["restream", "stream"])
def test_restream_gives_all_documents_of_each_run_in_turn(db, pair, method):
    stream = getattr(db, method)
    assert isinstance(stream(pair[0]), GeneratorType)
    assert [name for name, _ in stream(pair)] == ["start", "descriptor", "event", "event", "stop"] * 2
    assert [doc["uid"] for name, doc in stream(pair) if name == "start"] == uids(pair)
    assert [name for name, _ in stream(pair[0], fields=["none"])] == ["start", "descriptor", "stop"]


def test_process_calls_for_each_document(db, pair):
    seen = []
    assert db.process(pair, lambda name, doc: seen.append((name, doc))) is None
    assert seen == list(db.restream(pair))


def test_table_of_several_runs(db, pair):
    table = db.get_table(pair)
    assert table.index.tolist() == [1, 2, 1, 2]
    assert table.index.name == "seq_num"
    assert (table["time"].diff().dropna() != pd.Timedelta(0)).all()


def test_table_of_no_runs_is_empty_and_its_index_has_its_name(db):
    table = db.get_table([])
    assert table.shape == (0, 0)
    assert table.index.name == "seq_num"


def test_table_of_runs_with_other_fields(db):
    one, other = insert(db, factories.run(2, ["det1"])), insert(db, factories.run(2, ["det2"]))
    table = db.get_table(db[[one, other]])
    assert set(table.columns) == {"time", "det1", "det2"}
    assert table["det1"].notna().tolist() == [True, True, False, False]


def test_arguments_of_get_table_in_order(db):
    header = db[insert(db, factories.run())]
    table = db.get_table(header, "primary", ["det"], False, None, False, None, False)
    assert table["time"].tolist() == [T0 + 1.5, T0 + 2.5, T0 + 3.5]


@pytest.mark.parametrize("method", ["get_documents", "get_events"])
def test_handler_registry_of_a_call_is_not_implemented_when_iterated(db, pair, method):
    documents = getattr(db, method)(pair[0], handler_registry={})
    with pytest.raises(NotImplementedError):
        next(documents)


def test_handler_registry_of_a_table_is_not_implemented(db, pair):
    with pytest.raises(NotImplementedError):
        db.get_table(pair[0], handler_registry={})


# -- hooks and fetchers


def test_external_fetchers_appear_in_ext(db):
    uid = insert(db, factories.run())
    db.external_fetchers["suid"] = lambda start, stop: start["uid"]
    db.external_fetchers["status"] = lambda start, stop: stop["exit_status"]
    header = db[uid]
    assert header.ext.suid == uid
    assert header.ext.status == "success"
    assert db.fetch_external(header.start, header.stop) == {"suid": uid, "status": "success"}


def test_external_fetchers_are_an_argument(tmp_path):
    db = Broker(tmp_path, external_fetchers={"answer": lambda start, stop: 42})
    insert(db, factories.run())
    assert db[-1].ext.answer == 42


def test_every_document_passes_the_hook(db):
    uid = insert(db, factories.run())
    seen = []

    def hook(name, doc):
        seen.append(name)
        return doc

    db.prepare_hook = hook
    header = db[uid]
    for read in (lambda: header.start, lambda: header.stop, lambda: header.descriptors):
        read()
    assert {"start", "stop", "descriptor"} == set(seen)
    seen.clear()
    list(header.documents())
    assert set(seen) == {"start", "descriptor", "event", "stop"}
    assert seen.count("event") == 3
    seen.clear()
    list(header.events())
    assert "event" in seen


def test_changed_hook_is_followed_by_headers_and_results_made_before(db):
    insert(db, factories.run())
    header, results = db[-1], db()
    db.prepare_hook = lambda name, doc: {**doc, "hooked": name}
    found = next(iter(results))
    for one in (header, found):
        assert one.start["hooked"] == "start"
        assert one.stop["hooked"] == "stop"
        assert [doc["hooked"] for doc in one.descriptors] == ["descriptor"]
        assert [doc["hooked"] for doc in one.events()] == ["event"] * 3
        assert [doc["hooked"] for name, doc in one.documents()] == [name for name, _ in one.documents()]
