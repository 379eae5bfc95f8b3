"""The verbs of the command: what they list, for people and for programs."""

import argparse
import csv
import io
import json
import re
import shlex
import shutil
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import command_reference
import factories as make
from filebroker import Broker, follow, make_catalog
from filebroker.cataloging import following
from filebroker.commands import main as command, plots
from filebroker.commands.canvas import curve, shades
from filebroker.commands.main import main
from filebroker.ground.errors import InvalidOption, NotSupported
from filebroker.storing.recorder import Recorder

ROOT = Path(__file__).parents[1]
VERBS = dict(command_reference.parsers())
#: Verbs that list things.
LISTING = {"ls", "search", "keys", "table", "refresh", "config list", "config where", "upload", "cache"}


def printed_rows(capsys: pytest.CaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# ------------------------------------------------------------------------------------------ all verbs


def test_each_module_brings_the_verbs_that_are_said_of_it() -> None:
    for module in set(command._MODULES.values()):
        verbs = argparse.ArgumentParser().add_subparsers()
        command.import_module(f"filebroker.commands.{module}").add_verbs(verbs)
        assert set(verbs.choices) == {verb for verb, home in command._MODULES.items() if home == module}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_examples_that_can_be_read(verb: str) -> None:
    parser = VERBS[verb]
    assert re.fullmatch(r"[A-Z].*\.", parser.description or "", re.DOTALL)
    epilog = parser.epilog or ""
    assert "examples:\n  " in epilog or "put a line" in epilog
    assert f"filebroker {verb}" in epilog
    assert max(map(len, epilog.splitlines())) <= 120
    for action in parser._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), (verb, action.dest)


@pytest.mark.parametrize("verb", VERBS)
def test_examples_are_understood(verb: str) -> None:
    for line in re.findall(r"^  (filebroker [^\n\\]*(?:\\\n[^\n\\]*)*)", VERBS[verb].epilog or "", re.MULTILINE):
        words = _words(line)
        assert command._parse(words) is not None, line


def _words(line: str) -> list[str]:
    """Give the words of an example, without its comment and what it is piped into."""
    text = re.sub(r"\\\n +", "", line)
    return shlex.split(re.split(r" {3,}| \| | > ", text)[0])[1:]


@pytest.mark.parametrize("verb", sorted(LISTING))
def test_what_lists_does_so_for_programs_as_well(verb: str) -> None:
    options = {option for action in VERBS[verb]._actions for option in action.option_strings}
    assert {"--json", "--csv"} <= options


def test_the_reference_is_what_the_help_says() -> None:
    page = (ROOT / "docs/reference/command.md").read_text()
    remedy = "PYTHONPATH=tests python tests/command_reference.py > docs/reference/command.md"
    assert page == command_reference.page(), remedy


def test_without_a_verb_all_are_listed_by_what_one_wants(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Your beamtime in a folder")
    assert re.findall(r"^  (\w+) ", printed, re.MULTILINE) == list(command._MODULES)
    assert len(printed.splitlines()) < 60


@pytest.mark.parametrize(
    ("verb", "hint"),
    [
        ("lss", "did you mean ls?"),
        ("tabel", "did you mean table or tail?"),
        ("xyzzy", "no verb 'xyzzy'; \"filebroker\" alone"),
    ],
)
def test_a_verb_that_is_none_suggests_the_nearest(verb: str, hint: str, capsys: pytest.CaptureFixture) -> None:
    assert main([verb]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert hint in printed.err


# ------------------------------------------------------------------------------------------ ls, search, keys


def test_columns_are_chosen_from_the_metadata_and_the_stop_document(capsys: pytest.CaptureFixture) -> None:
    columns = "scan_id,sample.name,start.plan_name,stop.num_events.primary,duration"
    assert main(["ls", "example", "-n", "2", "--columns", columns]) == 0
    title, first, second = capsys.readouterr().out.splitlines()
    assert title.split() == columns.split(",")
    assert first.split() == ["22", "good", "sample", "scan", "11", "0.028"]
    assert second.split() == ["21", "-", "adaptive_scan", "12", "0.019"]


def test_programs_are_given_all_runs_and_whole_uids(capsys: pytest.CaptureFixture) -> None:
    assert main(["ls", "example", "--json"]) == 0
    rows = printed_rows(capsys)
    assert len(rows) == 22
    assert rows[0] == {
        "uid": Broker.named("example")[-1].uid,
        **{"time": rows[0]["time"], "scan_id": 22, "status": "success", "plan": "scan"},
    }
    assert main(["search", "example", "plan_name=scan", "--csv", "--columns", "uid,motors"]) == 0
    table = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert table[0] == ["uid", "motors"]
    assert len(table) == 6
    assert table[1] == [rows[0]["uid"], '["motor"]']
    assert main(["ls", "example", "--json", "-n", "3"]) == 0
    assert len(printed_rows(capsys)) == 3


def test_catalogs_are_listed_for_programs(capsys: pytest.CaptureFixture) -> None:
    assert main(["ls", "--json"]) == 0
    assert [row["name"] for row in printed_rows(capsys)] == ["example"]


def test_a_column_that_no_run_has_is_told_of(capsys: pytest.CaptureFixture) -> None:
    assert main(["ls", "example", "--columns", "scan_id,smaple.name"]) == 0
    assert 'no run listed has smaple.name; "filebroker keys example" lists the keys\n' in capsys.readouterr().err
    assert main(["ls", "example", "--columns", "scan_id,sample.name"]) == 0
    assert "no run listed" not in capsys.readouterr().err


def test_what_is_long_is_cut_for_people_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    broker = Broker(tmp_path)
    for pair in make.run(1, comment="x" * 10_000, tags=["測試"] * 1000):
        broker.insert(*pair)
    broker.close()
    assert main(["ls", str(tmp_path), "--columns", "comment,tags"]) == 0
    assert all("..." in line and len(line) <= 170 for line in capsys.readouterr().out.splitlines()[1:])
    assert main(["ls", str(tmp_path), "--columns", "comment", "--csv"]) == 0
    assert len(capsys.readouterr().out) > 10_000


@pytest.mark.parametrize("columns", ["", "a,,b", "uid,uid"])
def test_columns_without_names_are_refused(columns: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["ls", "example", "--columns", columns])
    assert exit_.value.code == 2
    assert "are no names of columns" in capsys.readouterr().err


def test_lists_keep_their_columns_whatever_a_run_says(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    broker = Broker(tmp_path)
    odd: list[Any] = ["two\nlines", "\x1b[2Jclear", "測試樣品", "=1+1", None, {"a": [1, 2]}, 3, "\ud800"]
    for number, value in enumerate(odd):
        for pair in make.run(1, uid=f"run{number}", time=make.T0 - number, sample=value, scan_id=number):
            broker.insert(*pair)
    broker.close()
    assert main(["ls", str(tmp_path), "--columns", "sample,scan_id"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[1:]] == [str(number) for number in range(len(odd))]
    assert "\x1b" not in "".join(lines)
    widths = {len(line) + sum(ord(character) > 0x2E80 for character in line) for line in lines}
    assert len(widths) == 1  # a wide character takes two columns
    assert main(["ls", str(tmp_path), "--csv", "--columns", "sample"]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    cells = [row[0] for row in csv.reader(io.StringIO(printed))][1:]
    assert cells[0] == "two\nlines"
    assert cells[3] == "'=1+1"
    assert main(["ls", str(tmp_path), "--json", "--columns", "sample"]) == 0
    assert [row["sample"] for row in printed_rows(capsys)] == odd


def test_search_explains_itself(capsys: pytest.CaptureFixture) -> None:
    assert main(["search", "example", "plan_name=scan", "--explain"]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 6
    assert "answers    5" in printed.err


def test_keys_are_listed_for_programs(capsys: pytest.CaptureFixture) -> None:
    assert main(["keys", "example", "--json"]) == 0
    (row,) = (row for row in printed_rows(capsys) if row["key"] == "sample.name")
    assert row["types"] == "string"
    assert "good sample" in row["commonest"]
    assert main(["keys", "example", "--csv"]) == 0
    assert capsys.readouterr().out.startswith("key,runs,types,values,commonest\n")


# ------------------------------------------------------------------------------------------ show, table, documents


def test_show_gives_a_run_to_programs(capsys: pytest.CaptureFixture) -> None:
    assert main(["show", "example", "22", "--json"]) == 0
    (shown,) = printed_rows(capsys)
    header = Broker.named("example")[22]
    assert (shown["start"], shown["stop"]) == (dict(header.start), dict(header.stop))
    assert [(stream["name"], stream["events"]) for stream in shown["streams"]] == [("baseline", 2), ("primary", 11)]
    assert shown["streams"][1]["fields"][0]["field"] == "det"
    assert shown["duration"] == 0.028


def test_show_draws_what_the_hints_describe(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["show", "example", "22"]) == 0
    printed = capsys.readouterr().out
    drawn = printed[printed.index("det against motor") :].splitlines()
    assert max(map(len, drawn)) <= 40
    assert drawn[1].split()[0] == "1"
    assert drawn[-1].split() == ["-1", "1"]
    assert main(["show", "example", "22", "--no-plot"]) == 0
    assert "det against motor" not in capsys.readouterr().out


def test_show_draws_a_map_of_a_grid(capsys: pytest.CaptureFixture) -> None:
    (grid,) = Broker.named("example")(plan_name="grid_scan")
    assert main(["show", "example", grid.uid]) == 0
    assert re.search(r"\n\w+ \(.* to .*\) at motor\d and motor\d\n", capsys.readouterr().out)


def test_show_says_units_and_where_data_are_outside(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    broker = Broker(tmp_path)
    keys = {"x": make.data_key(units="mm\x1b[2J"), "img": make.data_key("array", external="FILESTORE:")}
    begun = make.start(**{"deep": {"a": {"b": 1}, "e": {}}, "odd\n": "x" * 1000})
    for pair in (("start", begun), ("descriptor", make.descriptor(begun, keys)), ("stop", make.stop(begun))):
        broker.insert(*pair)
    broker.close()
    assert main(["show", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"\nfield +dtype +shape +units +external\nx +number +\[\] +mm ?\[2J +-\n", printed)
    assert "FILESTORE:" in printed
    assert re.search(r"\n  deep\.a\.b +1\n  deep\.e +\{\}\n", printed)
    assert "\x1b" not in printed
    assert max(map(len, printed.splitlines())) < 400


def test_events_that_cannot_be_drawn_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    values: list[Any] = [1.0, None, "beam off", float("nan"), float("inf"), 1e308, -1e308, 3]
    broker = Broker(tmp_path)
    begun = make.start(hints={"dimensions": [[["motor"], "primary"]]})
    primary = make.descriptor(begun, ["motor", "det"], hints={"det": {"fields": ["det"]}})
    other = make.descriptor(begun, ["motor"])
    for pair in (("start", begun), ("descriptor", primary), ("descriptor", other)):
        broker.insert(*pair)
    for number, value in enumerate(values):
        data = {"motor": float(number), "det": value} if number != 1 else {"motor": 1.0}
        broker.insert("event", make.event(primary if number != 1 else other, number + 1, data))
    broker.insert("stop", make.stop(begun))
    broker.close()
    assert main(["show", str(tmp_path)]) == 0
    assert "det against motor" in capsys.readouterr().out
    stream = Broker(tmp_path).runs.newest(1)["primary"]
    rows = plots._rows(stream, ["motor", "det"])
    assert [row[0] for row in rows] == [float(number) for number in range(len(values))]  # beside each other
    assert rows[-1] == (7.0, 3)


@pytest.mark.parametrize(
    "points", [[(0.0, 0.0), (0.0, 0.0)], [(-1e308, -1e308), (1e308, 1e308)], [(5e-324, 1), (0, 2)], [(1, 1)] * 50_000]
)
def test_any_numbers_can_be_drawn(points: list[tuple[float, float]]) -> None:
    for is_plain in (True, False):
        lines = curve(points, 20, 5, is_plain=is_plain)
        assert [len(line) for line in lines] == [20] * 5
        assert any(line.strip() for line in lines)
        assert [len(line) for line in shades(points, [1.0] * len(points), 20, 5, is_plain=is_plain)] == [20] * 5


def test_a_table_is_given_to_programs(capsys: pytest.CaptureFixture) -> None:
    assert main(["table", "example", "22", "--json", "--field", "det", "-n", "2"]) == 0
    first, second = printed_rows(capsys)
    assert list(first) == ["seq_num", "time", "det"]
    assert first["time"] == "2026-11-22T17:49:08.641080856Z"
    assert second["det"] == Broker.named("example")[22].table()["det"].iloc[1]
    assert main(["table", "example", "22", "--csv"]) == 0
    table = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert table[0] == ["seq_num", "time", "det", "motor", "motor_setpoint"]
    assert len(table) == 12


def test_documents_are_those_that_were_recorded(capsys: pytest.CaptureFixture) -> None:
    assert main(["documents", "example", "22"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    run = Broker.named("example").runs.lookup(22)
    assert printed == [[name, doc] for name, doc in run.documents()]
    assert main(["documents", "example", "22", "--stream", "baseline"]) == 0
    names = [json.loads(line)[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["descriptor", "event", "event"]
    assert main(["documents", "example", "22", "--name", "event"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 13
    with pytest.raises(SystemExit):
        main(["documents", "example", "22", "--name", "evnt"])
    assert "choose from" in capsys.readouterr().err
    assert main(["documents", "example", "22", "--stream", "dark"]) == 1
    assert "has no stream 'dark'" in capsys.readouterr().err


def test_what_was_said_afterwards_is_shown_and_can_be_a_column(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    broker = Broker(tmp_path)
    for pair in make.run(1):
        broker.insert(*pair)
    broker.annotate(-1, "use this\x1b[2J one", tags=["good", "paper"], author="chen")
    broker.close()
    assert main(["show", str(tmp_path)]) == 0
    assert re.search(r"\nannotations\n  \d.*  chen: use this \[2J one #good #paper\n", capsys.readouterr().out)
    assert main(["show", str(tmp_path), "--json"]) == 0
    assert printed_rows(capsys)[0]["annotations"][0]["tags"] == ["good", "paper"]
    assert main(["ls", str(tmp_path), "annotations.tags=good", "--columns", "scan_id,annotations.tags"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split(maxsplit=1) == ["1", '["good", "paper"]']


# ------------------------------------------------------------------------------------------ tail


def test_tail_prints_a_run_that_has_stopped(capsys: pytest.CaptureFixture) -> None:
    assert main(["tail", "example", "22"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("run 0a00d92c-cc6c-493b-b077-dc52149005ab: scan_id 22, scan, began 2026-11-22")
    assert len(lines) == 1 + 2 + 13 + 1
    assert lines[-1] == "stopped: success, events: baseline 2, primary 11"
    assert main(["tail", "example", "22", "--stream", "baseline"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 1 + 2 + 1


@pytest.mark.parametrize("url", ["{tmp_path}/runs", "memory://{name}/runs"])
def test_a_run_is_followed_until_it_stops(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILEBROKER_STAGING", str(tmp_path / "staging"))
    broker = Broker(url.format(tmp_path=tmp_path, name=tmp_path.name))
    pairs = list(make.run(40, ["det", "img"]))
    for pair in pairs[:2]:
        broker.insert(*pair)
    broker.catalog.flush()
    run = broker.runs.newest(1)
    found = []
    for pair in follow(run, interval=0.01):
        found.append(pair)
        if len(found) == 2:  # all that is there
            writer = threading.Thread(target=lambda: [broker.insert(*pair) for pair in pairs[2:]])
            writer.start()
    writer.join()
    broker.close()
    assert found == pairs


def test_documents_are_read_from_any_of_them_on() -> None:
    files = Broker.named("example").runs.newest(1).files
    everything = list(files.numbered())
    for first in range(len(everything) + 1):
        assert list(files.numbered(first)) == everything[first:]


def test_following_survives_that_segments_are_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Recorder.__init__.__kwdefaults__, "segment_documents", 7)
    broker = Broker(tmp_path)
    pairs = list(make.run(200))
    broker.insert(*pairs[0])
    run = Broker(tmp_path, read_only=True).runs.newest(1)

    def record() -> None:
        for place, pair in enumerate(pairs[1:]):
            broker.insert(*pair)
            if place % 10 == 0:
                time.sleep(0.02)

    writer = threading.Thread(target=record)
    writer.start()
    found = list(follow(run, interval=0.001))
    writer.join()
    broker.close()
    assert found == pairs


def test_tail_waits_for_the_next_run(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(tmp_path)
    for pair in make.run(1, uid="before"):
        broker.insert(*pair)
    looks = iter([None, make.run(2, uid="after", time=make.T0 + 9)])

    def sleep(_: float) -> None:
        for pair in next(looks) or ():
            broker.insert(*pair)

    monkeypatch.setattr(following, "time", SimpleNamespace(sleep=sleep))
    assert main(["tail", str(tmp_path), "--wait", "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "waiting for the next run\n"
    pairs = [json.loads(line) for line in printed.out.splitlines()]
    assert pairs[0][1]["uid"] == "after"
    assert [name for name, _ in pairs] == ["start", "descriptor", "event", "event", "stop"]
    broker.close()


def test_tail_says_that_a_recording_was_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    broker = Broker(tmp_path)
    for pair in make.run(2)[:-1]:
        broker.insert(*pair)
    broker.close()
    with pytest.warns(UserWarning, match="was cut short"):
        Broker(tmp_path)
    assert main(["tail", str(tmp_path)]) == 0
    assert capsys.readouterr().err == "the run has no stop document: its recording was cut short\n"


def test_tail_refuses_what_means_nothing(capsys: pytest.CaptureFixture) -> None:
    assert main(["tail", "example", "22", "--stream", "dark"]) == 1
    assert "has no stream 'dark'" in capsys.readouterr().err
    assert main(["tail", "example", "22", "--wait"]) == 1
    assert "leave the RUN out" in capsys.readouterr().err
    with pytest.raises(InvalidOption, match="from 0 on"):
        next(follow(Broker.named("example").runs.newest(1), interval=-1))
    with pytest.raises(SystemExit):
        main(["tail", "example", "--interval", "nan"])
    assert "'nan' is no number of seconds" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ init, refresh


def test_init_makes_a_catalog_that_can_be_opened_and_recorded_into(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    place = tmp_path / "new" / "runs"
    assert main(["init", str(place), "--name", "beamtime"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{place}\n"
    assert "db = Broker.named('beamtime'); RE.subscribe(db.insert)" in printed.err
    marker = (place / "filebroker.json").read_bytes()
    assert len(Broker.named("beamtime")()) == 0
    assert main(["init", str(place)]) == 0  # again: nothing is changed
    assert (place / "filebroker.json").read_bytes() == marker
    assert main(["ls", "beamtime"]) == 0
    db = Broker.named("beamtime")
    for pair in make.run(1):
        db.insert(*pair)
    db.close()
    assert len(Broker(place, read_only=True)()) == 1


def test_init_refuses_before_it_makes_anything(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["init", str(tmp_path / "new"), "--name", "example"]) == 1
    assert "example" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    (tmp_path / "holiday.jpg").touch()
    assert main(["init", str(tmp_path)]) == 1
    assert "Give an empty or a new directory" in capsys.readouterr().err
    with pytest.raises(NotSupported, match="begins with the first document"):
        make_catalog("s3://bucket/runs")


def test_what_refresh_found_is_listed_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    broker = Broker(tmp_path / "runs")
    for pair in make.run(1):
        broker.insert(*pair)
    broker.close()
    shutil.copytree(ROOT / "sample_data" / "example" / "2026", tmp_path / "runs" / "2026")
    assert main(["refresh", str(tmp_path / "runs"), "--json"]) == 0
    rows = printed_rows(capsys)
    assert len(rows) == 22
    assert {row["what"] for row in rows} == {"added"}


# ------------------------------------------------------------------------------------------ what holds for all


@pytest.mark.parametrize("columns", ["20", "40"])
def test_a_list_is_no_wider_than_the_terminal(
    columns: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["ls", "example"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= max(30, int(columns))


def test_numbers_of_programs_are_not_cut(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    broker = Broker(tmp_path)
    for pair in make.run(1, big=2**70, tiny=5e-324, nothing=float("nan")):
        broker.insert(*pair)
    broker.close()
    assert main(["ls", str(tmp_path), "--json", "--columns", "big,tiny"]) == 0
    assert printed_rows(capsys) == [{"big": 2**70, "tiny": 5e-324}]
    assert main(["documents", str(tmp_path), "--name", "start"]) == 0
    assert '"nothing": NaN' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["stop.exit_status=success"], 20),
        (["stop.exit_status=fail"], 1),
        (["stop.exit_status=fail", "plan_name=scan"], 0),
        (["stop.exit_status=success", "plan_name=scan"], 5),
        (["good", "stop.num_events.primary=11", "stop.exit_status=success", "plan_name=scan"], 1),
        (['stop.num_events.primary={"$gt": 3}', 'stop.num_events.primary={"$lt": 11}', "--since", "2026"], None),
        (['$or=[{"plan_name": "scan"}, {"plan_name": "count"}]', "stop.exit_status=success"], None),
    ],
)
def test_runs_are_found_by_how_they_ended(words, count, capsys):
    assert main(["ls", "example", "--json", "--columns", "uid,plan_name,stop.exit_status", *words]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == count if count is not None else rows
    assert main(["ls", "example", "--explain", *words]) == 0


def test_who_asks_for_a_status_is_told_where_it_stands(capsys):
    assert main(["ls", "example", "status=fail"]) == 0
    assert capsys.readouterr().err == "no run matches; how runs ended is asked as in stop.exit_status=fail\n"
