"""The doctor names what is wrong, gives advice, and tells nobody's secrets."""

import json
import os
import time
from importlib import metadata
from pathlib import Path

import pytest

import factories as f
from filebroker import Broker, Catalog, doctor
from filebroker.commands.main import main
from filebroker.faces import installation
from filebroker.storing import staging
from filebroker.storing.staging import Pending, Waiting

CANARY = "canary-9f31c7"


def of(found, about):
    return [symptom for symptom in found if symptom.about == about]


def record(root, *docs, **keys):
    begun, *rest = f.run(1, **keys)
    catalog = Catalog(root)
    for pair in [begun, *[(name, make(begun[1])) for name, make in docs], *rest]:
        catalog.insert(*pair)
    catalog.close()
    return root


def test_nothing_is_wrong_here():
    found = doctor(Broker.named("example"))
    assert [symptom for symptom in found if symptom.state == "wrong"] == []
    assert {"python", "filebroker", "packages", "extra assets", "cache", "staging", "catalog"} <= {
        one.about for one in found
    }


def test_the_command_has_the_same_as_json(capsys):
    assert main(["doctor", "example", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"state", "about", "what", "advice"} == set(rows[0])
    assert [row["what"] for row in rows if row["about"] == "configuration example"]


def test_a_catalog_that_is_none_is_wrong(tmp_path, capsys):
    (tmp_path / "letter.txt").touch()
    assert main(["doctor", str(tmp_path)]) == 1
    assert "is no filebroker catalog" in capsys.readouterr().out
    assert main(["doctor", "no-such-name"]) == 1


def test_a_store_that_does_not_answer_is_wrong(monkeypatch):
    monkeypatch.setenv("FILEBROKER_TIMEOUT", "1")
    found = doctor(lambda: Broker("http://127.0.0.1:9/beamtime"))
    assert [symptom.state for symptom in of(found, "catalog")] == ["wrong"]


def test_missing_handlers_are_named_with_the_package_that_brings_them(tmp_path):
    root = record(
        tmp_path / "catalog",
        ("resource", lambda begun: f.resource(begun, spec="newton")),
        ("resource", lambda begun: f.resource(begun, spec="OUR_CAMERA")),
        ("resource", lambda begun: f.resource(begun, spec="AD_TIFF")),
        (
            "stream_resource",
            lambda begun: {
                **{"uid": "s", "run_start": begun["uid"], "data_key": "det", "mimetype": "application/x-unheard"},
                **{"uri": "file://localhost/nowhere", "parameters": {}},
            },
        ),
    )
    found = doctor(Broker(root, read_only=True))
    (newton,) = of(found, "handler newton")
    assert (newton.state, "pip install" in newton.advice) == ("wrong", True)
    assert "register_handler('OUR_CAMERA'" in of(found, "handler OUR_CAMERA")[0].advice
    assert of(found, "handler AD_TIFF")[0].state == "good"
    assert of(found, "files application/x-unheard")[0].state == "wrong"


def test_a_broken_configuration_is_named(own_home):
    place = own_home / ".config" / "filebroker"
    place.mkdir(parents=True)
    (place / "broken.yml").write_text("path: [")
    (wrong,) = [symptom for symptom in of(doctor(), "configuration") if symptom.state == "wrong"]
    assert str(place / "broken.yml") in wrong.what


def test_packages_that_are_missing_or_too_old_or_share_a_name_are_wrong(monkeypatch):
    versions = {"numpy": "1.26.4", "orjson": None, "h5py": None}
    real = installation._version_of
    monkeypatch.setattr(
        installation, "_version_of", lambda name: versions.get(name, real(name)) if name in versions else real(name)
    )
    found = list(installation.symptoms())
    (wrong,) = of(found, "packages")
    assert (wrong.state, wrong.what) == ("wrong", "numpy 1.26.4, >=2 is needed")
    (note,) = of(found, "extra assets")
    assert (note.state, note.what, note.advice) == ("note", "not installed: h5py", 'pip install "filebroker[assets]"')
    versions["numpy"] = real("numpy")
    assert "orjson not installed" in of(list(installation.symptoms()), "packages")[0].what

    class Named:
        def __init__(self, name):
            self.metadata = {"Name": name}

    monkeypatch.setattr(installation, "distributions", lambda: [Named("Whoosh"), Named("Whoosh-Reloaded"), Named(None)])
    assert of(list(installation.symptoms()), "whoosh")[0].state == "wrong"


def test_filebroker_that_is_not_installed_is_told(monkeypatch):
    def requires(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(installation, "requires", requires)
    assert list(installation.symptoms())[-1].state == "wrong"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AWS_SECRET_ACCESS_KEY", CANARY),
        ("AWS_SESSION_TOKEN", CANARY),
        ("AWS_ENDPOINT_URL", f"http://someone:{CANARY}@127.0.0.1:9"),
        ("HTTPS_PROXY", f"http://someone:{CANARY}@proxy:8080"),
        ("AZURE_STORAGE_CONNECTION_STRING", f"AccountKey={CANARY}"),
        ("FILEBROKER_TOKEN", CANARY),
    ],
)
def test_no_secret_of_the_environment_is_told(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    found = doctor()
    assert CANARY not in repr(found)
    assert of(found, f"environment {variable}")


def test_no_secret_of_a_configuration_is_told(own_home, capsys):
    place = own_home / ".config" / "filebroker"
    place.mkdir(parents=True)
    options = f"storage_options: {{key: testing, secret: {CANARY}, endpoint_url: 'http://127.0.0.1:9'}}"
    (place / "there.yml").write_text(f"path: s3://bucket/beamtime\n{options}\n")
    os.environ["FILEBROKER_TIMEOUT"] = "1"
    try:
        assert main(["doctor", "there", "--json"]) == 1
    finally:
        del os.environ["FILEBROKER_TIMEOUT"]
    assert CANARY not in "".join(capsys.readouterr())


def test_runs_of_the_future_and_places_that_cannot_be_written_are_told(tmp_path, monkeypatch):
    root = record(tmp_path / "catalog", time=time.time() + 7200)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    found = doctor(Broker(root, read_only=True))
    assert of(found, "clock")[0].state == "note"
    assert "cannot be written to" in of(found, "catalog")[0].what
    assert of(found, "cache")[0].state == "wrong"


def test_damage_that_shows_is_told(tmp_path):
    root = record(tmp_path / "catalog")
    path = next(Path(root).glob("2*/*/*/*/documents.jsonl"))
    path.write_bytes(path.read_bytes() + b"x")
    found = of(doctor(Broker(root, read_only=True)), "catalog")
    assert [symptom.state for symptom in found] == ["good", "wrong"]
    assert "verify" in found[1].advice


def test_a_cache_that_is_switched_off_is_told(monkeypatch):
    monkeypatch.setenv("FILEBROKER_CACHE", "")
    assert of(doctor(), "cache")[0].state == "note"


def test_what_waits_to_be_uploaded_is_told(monkeypatch):
    item = Waiting("s3://bucket/beamtime", "/nowhere", "beamline-3", Pending(2, 10), is_listed=True, conflicts=["x"])
    monkeypatch.setattr(staging, "waiting", lambda: [item])
    conflict, waiting = of(doctor(), "staging")
    assert (conflict.state, waiting.state) == ("wrong", "note")
    assert waiting.advice == "filebroker upload s3://bucket/beamtime --host beamline-3"
