"""What all tests share: nobody's own configuration is read, and no file or thread is left behind."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Give each test an empty home to work in, without configurations; examples find there what they name."""
    home = tmp_path_factory.mktemp("home")
    if isinstance(request.node, pytest.DoctestItem):
        for name in ("catalogs", "sample_data"):
            (home / name).symlink_to(Path(__file__).parent / name)
    for variable in ("HOME", "USERPROFILE", "APPDATA"):
        monkeypatch.setenv(variable, str(home))
    monkeypatch.setenv("VIRTUAL_ENV", str(home / "environment"))  # of which Intake reads the catalogs
    for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(home)
    return home
