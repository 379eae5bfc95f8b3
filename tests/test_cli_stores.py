"""The command's verbs for stores: what waits to be uploaded, and what is kept of their files."""

import json
import socket
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

import factories as make
from filebroker import Broker, follow
from filebroker.cataloging.recording import mark
from filebroker.commands.main import main
from filebroker.finding import cache
from filebroker.ground.errors import RecoveryWarning, UploadWarning
from filebroker.ground.stores import Store
from filebroker.storing.staging import Staging, waiting
from servers import options_for, refusing_port


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}/beamtime"


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILEBROKER_STAGING", str(tmp_path / "staging"))
    monkeypatch.setenv("FILEBROKER_CACHE", str(tmp_path / "cache"))


def record(place: str, *uids: str, stop: bool = True, **keys: Any) -> None:
    broker = Broker(place)
    for number, uid in enumerate(uids):
        for pair in make.run(2, uid=uid, time=make.T0 + number, **keys)[: None if stop else -1]:
            broker.insert(*pair)
    broker.close()


def stage(url: str, *uids: str, place: str = "", **options: Any) -> Staging:
    """Leave runs as a process does that died before it could upload them."""
    staging = empty_staging(url, place)
    record(staging.root, *uids, **options)
    return staging


def empty_staging(url: str, place: str = "") -> Staging:
    staging = Staging(url, place or Store(url).place)
    staging.make()
    mark(staging.root)
    return staging


def elsewhere(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Give the runs of a store as another machine sees them."""
    with monkeypatch.context() as patch:
        patch.setenv("FILEBROKER_STAGING", str(tmp_path / "another"))
        return [header.uid for header in Broker(url, read_only=True)()]


def configure(home: Path, name: str, text: str) -> None:
    path = home / ".config" / "databroker" / f"{name}.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# ------------------------------------------------------------------------------------------- tail


def test_a_run_in_a_store_is_followed_from_elsewhere(
    s3_url: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place, options = s3_url
    broker = Broker(f"{place}/runs", storage_options=options)
    pairs = list(make.run(6))
    parts = [pairs[:3], pairs[3:5], pairs[5:]]

    def record() -> None:
        for pair in parts.pop(0):
            broker.insert(*pair)
        broker.catalog.flush()

    record()
    monkeypatch.setenv("FILEBROKER_STAGING", str(tmp_path / "another"))
    there = Broker(f"{place}/runs", storage_options=options, read_only=True)
    found = []
    for pair in follow(there.runs.newest(1), interval=0.05):
        found.append(pair)
        if parts and found == pairs[: len(pairs) - sum(map(len, parts))]:
            record()
    assert found == pairs
    broker.close()


# ------------------------------------------------------------------------------------------- upload


def test_what_waits_is_listed_and_nothing_is_done(url: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["upload"]) == 0
    assert capsys.readouterr() == ("", "nothing waits to be uploaded\n")
    staging = stage(url, "one", "two")
    Staging(f"{url}/empty").make()
    assert main(["upload"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{url}: 2 runs (0.0 MB)\n"
    assert printed.err == ""
    assert len(staging.runs()) == 2


def test_what_waits_is_listed_for_programs(url: str, capsys: pytest.CaptureFixture) -> None:
    staging = stage(url, "one", "two")
    assert main(["upload", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["bytes"] > 0
    assert row == {
        **{"url": url, "runs": 2, "bytes": row["bytes"], "host": staging.host},
        **{"directory": staging.root, "conflicts": []},
    }
    assert main(["upload", "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "url,runs,bytes,host,directory"


def test_what_waits_is_uploaded(
    url: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    staging = stage(url, "one", "two")
    assert main(["upload", url]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{url}: 2 runs uploaded\n"
    assert printed.err == ""
    assert elsewhere(url, monkeypatch, tmp_path) == ["two", "one"]
    assert not staging.waiting().is_listed
    assert waiting() == []
    assert main(["upload", url + "/"]) == 0
    assert capsys.readouterr() == ("", f"nothing waits to be uploaded to {url}\n")


def test_a_name_serves_as_well_and_one_after_another(
    url: str, own_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configure(own_home, "beamtime", f"path: {url}")
    stage(url, "one")
    stage(f"{url}/other", "two")
    assert main(["upload", "beamtime", f"{url}/other"]) == 0
    assert elsewhere(url, monkeypatch, tmp_path) == ["one"]
    assert elsewhere(f"{url}/other", monkeypatch, tmp_path) == ["two"]


def test_a_recording_that_was_cut_short_is_sealed_and_uploaded(
    url: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stage(url, "one", stop=False)
    with pytest.warns(RecoveryWarning, match="was cut short"):
        assert main(["upload", url]) == 0
    assert elsewhere(url, monkeypatch, tmp_path) == ["one"]
    assert Broker(url, read_only=True)["one"].state == "interrupted"


def test_a_run_that_is_being_recorded_is_uploaded_as_far_as_it_has_come(
    url: str, capsys: pytest.CaptureFixture
) -> None:
    staging = empty_staging(url)
    broker = Broker(staging.root)
    for pair in make.run(1)[:-1]:
        broker.insert(*pair)
    assert main(["upload", url]) == 0
    assert capsys.readouterr().out == f"{url}: 0 runs uploaded, 1 run uploaded as far as recorded by now\n"
    broker.close()


def test_the_list_of_runs_alone_waits_too(url: str, capsys: pytest.CaptureFixture) -> None:
    staging = Staging(url)
    staging.make()
    log = Path(staging.path("_index/log/20251122T111205Z-0123456789ab.jsonl"))
    log.parent.mkdir(parents=True)
    log.write_bytes(b"")
    assert main(["upload"]) == 0
    assert capsys.readouterr().out == f"{url}: the list of its runs\n"


def test_what_stays_is_an_error_and_safe(
    own_home: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILEBROKER_TIMEOUT", "1")
    url = "s3://bucket/beamtime"
    with refusing_port() as endpoint:
        options = options_for(endpoint)
        staging = stage(url, "one", place=Store(url, options).place)
        configure(own_home, "beamtime", f"path: {url}\nstorage_options: {options}")
        assert main(["upload", "beamtime"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "1 run (0.0 MB) for s3://bucket/beamtime is not uploaded yet, and safe in" in printed.err
    assert len(printed.err.splitlines()) == 1
    assert len(staging.runs()) == 1


def test_a_run_that_the_store_has_otherwise_is_kept_and_named(url: str, capsys: pytest.CaptureFixture) -> None:
    record(url, "one", "two")
    staging = stage(url, "one", comment="another")
    with pytest.warns(UploadWarning, match="a run with other content is there already"):
        assert main(["upload", url]) == 1
    (path,) = staging.waiting().conflicts
    assert f"{url} has other runs of the uids of 1 run, kept in {path}" in capsys.readouterr().err
    assert Path(path, "documents.jsonl").is_file()
    assert "comment" not in Broker(url)["one"].start
    assert main(["upload"]) == 0
    assert capsys.readouterr().out == (
        f"{url}: nothing waits\n  kept for good, because the store has another run of its uid: {path}\n"
    )


def test_of_a_staging_without_a_readable_label_the_place_is_told(url: str, capsys: pytest.CaptureFixture) -> None:
    staging = stage(url, "one")
    Path(staging.root, "_store.json").write_bytes(b"\0")
    assert main(["upload"]) == 0
    assert capsys.readouterr().out.startswith(f"{staging.root}, for a store that is not known any more: 1 run")


def test_what_waits_for_another_server_of_the_same_url_is_told(url: str, capsys: pytest.CaptureFixture) -> None:
    staging = stage(url, "one", place=f"{url} at http://127.0.0.1:9000")
    assert main(["upload", url]) == 1
    assert f"what waits for {url} is for another server; name that" in capsys.readouterr().err
    assert len(staging.runs()) == 1


def test_what_was_recorded_under_another_name_of_the_machine_is_taken_over_when_that_is_said(
    url: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: "before")
        stage(url, "one")
    assert main(["upload"]) == 0
    assert capsys.readouterr().out == f"{url}: 1 run (0.0 MB), recorded on before\n"
    assert main(["upload", url]) == 1
    assert f"what waits for {url} was recorded on 'before'" in capsys.readouterr().err
    assert main(["upload", "--host", "nobody", url]) == 1
    assert "recorded on 'nobody'" in capsys.readouterr().err
    assert main(["upload", "--host", "before", url]) == 0
    assert capsys.readouterr().out == f"{url}: 1 run uploaded\n"
    assert elsewhere(url, monkeypatch, tmp_path) == ["one"]
    assert not any(item.pending.runs for item in waiting())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nosuch", "no catalog is named 'nosuch'"),
        ("/data/beamtime", "/data/beamtime is on a local disk"),
        ("s3://me:secret@bucket", "a URL with s3:// has credentials in it"),
    ],
)
def test_what_cannot_be_uploaded_is_told(name: str, message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["upload", name]) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert "secret" not in printed.err


def test_a_terminal_is_told_how_far_it_is(
    url: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(url, "one")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["upload", url]) == 0
    assert " to be uploaded" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- cache


def read_all(url: str) -> None:
    broker = Broker(url, read_only=True)
    assert [len(header.table()) for header in broker()]
    broker.catalog.library.close()


def test_what_is_kept_is_listed(url: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILEBROKER_CACHE_SIZE", "1 MiB")
    assert main(["cache"]) == 0
    assert capsys.readouterr().out == f"0 B of at most 1.0 MiB, in {cache.root()}\n"
    record(url, "one")
    record(f"{url}/other", "one", "two")
    read_all(url)
    read_all(f"{url}/other")
    assert main(["cache"]) == 0
    title, one, other, total = capsys.readouterr().out.splitlines()
    assert title.split() == ["files", "size", "last", "used", "catalog"]
    assert one.endswith(f"  {url}")
    assert other.endswith(f"  {url}/other")
    assert int(other.split()[0]) > int(one.split()[0]) > 0
    assert "KiB" in other
    assert total.endswith(f" of at most 1.0 MiB, in {cache.root()}")


def test_what_is_kept_is_listed_for_programs(url: str, capsys: pytest.CaptureFixture) -> None:
    record(url, "one")
    read_all(url)
    assert main(["cache", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["catalog"] == url
    assert min(row["files"], row["bytes"]) > 0
    assert main(["cache", "--csv"]) == 0
    title, line = capsys.readouterr().out.splitlines()
    assert title == "catalog,files,bytes,last_used,directory"
    assert line.startswith(f"{url},{row['files']},{row['bytes']},")


def test_the_copies_of_one_catalog_are_cleared(url: str, own_home: Path, capsys: pytest.CaptureFixture) -> None:
    configure(own_home, "other", f"path: {url}/other")
    record(url, "one")
    record(f"{url}/other", "two")
    read_all(url)
    read_all(f"{url}/other")
    sizes = {item.catalog: item.usage.size for item in cache.kept()}
    assert min(sizes.values()) > 0
    assert main(["cache", "clear", "other"]) == 0
    assert f"{url}/other: " in capsys.readouterr().out
    assert {item.catalog: item.usage.size for item in cache.kept()} == {url: sizes[url], f"{url}/other": 0}
    read_all(f"{url}/other")
    assert main(["cache", "clear"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert [item.usage.entries for item in cache.kept()] == [0, 0]
    read_all(url)


def test_what_is_not_kept_cannot_be_cleared(
    url: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["cache", "clear"]) == 0
    assert main(["cache", "clear", url]) == 0
    assert capsys.readouterr() == ("", f"nothing is kept\nnothing is kept of {url}\n")
    assert main(["cache", "clear", "nosuch"]) == 1
    assert "no catalog is named 'nosuch'" in capsys.readouterr().err
    monkeypatch.setenv("FILEBROKER_CACHE", "")
    assert main(["cache"]) == 0
    assert capsys.readouterr() == ("", "nothing is kept, because FILEBROKER_CACHE is empty\n")


def test_a_cache_without_a_readable_label_is_listed_by_its_directory(url: str, capsys: pytest.CaptureFixture) -> None:
    record(url, "one")
    read_all(url)
    (item,) = cache.kept()
    Path(item.usage.directory).with_name("catalog.json").write_bytes(b"[]")
    assert main(["cache"]) == 0
    assert item.usage.label in capsys.readouterr().out.splitlines()[1]


def test_a_limit_that_is_none_is_an_error(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILEBROKER_CACHE_SIZE", "much")
    assert main(["cache"]) == 1
    assert "FILEBROKER_CACHE_SIZE is 'much', which is no size" in capsys.readouterr().err
