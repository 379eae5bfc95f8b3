"""databroker v1's tutorial, line by line and in order.

https://blueskyproject.io/databroker/v1/tutorial.html
"""

import re
from types import GeneratorType

import numpy as np
import pandas as pd
import pytest
from bluesky import RunEngine
from bluesky.plans import scan
from ophyd.sim import hw

from filebroker import Broker, list_configs

CONFIGURATION = """\
description: the runs of the tutorial
path: {path}
"""
# What det reads at motor = 1, 2, 3, 4, 5: a Gaussian.
DET = [0.6065306597126334, 0.1353352832366127, 0.011108996538242306, 0.00033546262790251185, 3.726653172078671e-06]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home directory with nothing in it but the configuration of the tutorial."""
    home = tmp_path_factory.mktemp("home")
    directory = home / ".config" / "databroker"
    directory.mkdir(parents=True)
    (directory / "tutorial.yml").write_text(CONFIGURATION.format(path=home / "runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
        yield home


@pytest.fixture(autouse=True)
def at_home(home, monkeypatch):
    """Whatever home other fixtures give to a single test, the tutorial has its own."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))


@pytest.fixture(scope="module")
def uids(home):
    """Five runs, recorded as the tutorial does; the last two have the same scan_id."""
    db = Broker.named("tutorial")
    engine = RunEngine({})
    engine.subscribe(db.insert)
    devices = hw()
    uids = []
    for scan_id in (1, 2, 3, 42, 42):
        metadata = {"comment": "another fine beamtime"} if scan_id == 3 else {}
        result = engine(scan([devices.det], devices.motor, 1, 5, 5), scan_id=scan_id, **metadata)
        uids.extend(getattr(result, "run_start_uids", result))
    db.close()
    return uids


@pytest.fixture(scope="module")
def db(uids):
    """The broker of the reader, which is not the one that recorded."""
    return Broker.named("tutorial")


@pytest.fixture(scope="module")
def header(db):
    return db[-1]


@pytest.fixture
def table(header):
    return header.table()


def test_list_configs_gives_the_name():
    assert "tutorial" in list_configs()


def test_named_opens_the_catalog(uids):
    db = Broker.named("tutorial")
    assert db.name == "tutorial"
    assert len(list(db())) == len(uids) == 5


def test_minus_one_is_the_newest_run(db, uids):
    header = db[-1]
    assert header.start["uid"] == uids[-1]


def test_table_has_time_and_the_fields(table):
    assert table.columns.tolist() == ["time", "det", "motor", "motor_setpoint"]
    assert table.index.name == "seq_num"
    assert table.index.tolist() == [1, 2, 3, 4, 5]


def test_table_has_dates_as_times(header, table):
    assert pd.api.types.is_datetime64_dtype(table["time"].dtype)
    assert table["time"].is_monotonic_increasing
    begin, end = (pd.Timestamp(header[name]["time"], unit="s") for name in ("start", "stop"))
    assert begin <= table["time"].iloc[0] <= table["time"].iloc[-1] <= end


def test_table_has_the_values(table):
    assert table["motor"].tolist() == table["motor_setpoint"].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert table["det"].tolist() == DET
    assert (table.dtypes[["det", "motor", "motor_setpoint"]] == np.float64).all()


def test_mean_of_the_table(table):
    means = table.mean()
    assert means["motor"] == 3.0
    assert means["det"] == pytest.approx(sum(DET) / 5)
    assert isinstance(means["time"], pd.Timestamp)


def test_quotient_of_two_columns(table):
    quotient = table["det"] / table["motor"]
    assert quotient.tolist() == [value / position for position, value in enumerate(DET, start=1)]
    assert quotient.index.name == "seq_num"


def test_table_to_csv(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table.to_csv("data.csv")
    lines = (tmp_path / "data.csv").read_text().splitlines()
    assert lines[0] == "seq_num,time,det,motor,motor_setpoint"
    assert len(lines) == 6
    assert re.fullmatch(r"1,\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+,0\.6065306597126334,1\.0,1\.0", lines[1])


def test_data_is_a_generator(header):
    data = header.data("det")
    assert isinstance(data, GeneratorType)
    assert next(data) == DET[0]


def test_loop_over_data_prints_five_points(header, capsys):
    for point in header.data("det"):
        print(point)
    assert [float(line) for line in capsys.readouterr().out.split()] == DET


def test_start_document(header, uids):
    start = header.start
    assert start["uid"] == uids[-1]
    assert start["scan_id"] == 42
    assert start["plan_name"] == "scan"
    assert start["motors"] == ["motor"]
    assert start["detectors"] == ["det"]
    assert start["num_points"] == 5
    assert start["hints"] == {"dimensions": [[["motor"], "primary"]]}


def test_stop_document(header, uids):
    stop = header.stop
    assert stop["run_start"] == uids[-1]
    assert stop["exit_status"] == "success"
    assert stop["num_events"] == {"primary": 5}
    assert stop["time"] > header.start["time"]


def test_devices(header):
    assert header.devices() == {"det", "motor"}


def test_fields(header):
    assert header.fields() == {"det", "motor", "motor_setpoint"}


def test_config_data(header):
    assert header.config_data("motor") == {"primary": [{"motor_velocity": 1, "motor_acceleration": 1}]}


def test_most_recent_run(db, uids):
    assert db[-1].uid == uids[-1]


def test_fifth_most_recent_run(db, uids):
    assert db[-5].uid == uids[0]


def test_last_five_runs_newest_first(db, uids):
    headers = db[-5:]
    assert isinstance(headers, list)
    assert [header.uid for header in headers] == uids[::-1]


def test_first_characters_of_a_uid(db, uids):
    # A uid may happen to begin with six figures: those would be read as a scan_id, in databroker as well.
    for uid in uids:
        if not uid[:6].isdecimal():
            assert db[uid[:6]].uid == uid


def test_scan_id_gives_the_newest_of_that_number(db, uids):
    assert db[42].uid == uids[-1]
    assert db[3].uid == uids[2]


def test_results_have_no_items(db):
    headers = db(plan_name="scan")
    with pytest.raises(TypeError):
        headers[2]


def test_list_of_results_has_items(db, uids):
    headers = db(plan_name="scan")
    assert list(headers)[2].uid == uids[2]


def test_loop_over_results(db):
    headers = db(plan_name="scan")
    means = [header.table()["det"].mean() for header in headers]
    assert means == [pytest.approx(sum(DET) / 5)] * 5


def test_search_for_words_finds_whole_words(db, uids):
    assert [header.uid for header in db("beamtime")] == [uids[2]]
    assert [header.uid for header in db("fine")] == [uids[2]]
    assert len(list(db("scan"))) == 5


@pytest.mark.parametrize("part", ["beam", "time", "sca", "can"])
def test_search_for_words_finds_no_parts_of_words(db, part):
    assert list(db(part)) == []
