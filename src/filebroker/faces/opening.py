"""From a configuration to a broker."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from filebroker.assets.handlers import Handlers
from filebroker.assets.places import resolved
from filebroker.cataloging.catalog import Catalog
from filebroker.cataloging.runs import Runs
from filebroker.faces.elsewhere import Elsewhere
from filebroker.faces.keywords import narrowed_by
from filebroker.faces.transforms import parse_transforms
from filebroker.ground import config as configs
from filebroker.ground.cautions import warn
from filebroker.ground.errors import (
    CatalogNotFound,
    ConfigNotFound,
    FilebrokerWarning,
    InvalidConfig,
    UnknownCatalogName,
)
from filebroker.ground.settings import Config

if TYPE_CHECKING:
    from filebroker.faces.broker import Broker


def named(name: str, auto_register: bool = True, kind: "type[Broker] | None" = None) -> "Broker":
    """Open a catalog by its name; see `Broker.named`.

    Parameters
    ----------
    name
        ``temp``, the name of a configuration, or else of an entry of Intake's.
    auto_register
        Also use the handlers that installed packages offer.
    kind
        A class to make of it that is derived from `Broker`.

    Raises
    ------
    UnknownCatalogName
        Nothing has that name; the message lists every place that was looked in.
    InvalidConfig
        The configuration cannot be used.
    """
    if name == "temp":
        from filebroker.faces.temporary import temp

        return temp()
    try:
        found = configs.find(name)
    except ConfigNotFound as error:
        return _from_intake(name, error)
    return opened(found, auto_register, kind)


def _from_intake(name: str, error: ConfigNotFound) -> "Broker":
    """Give the entry that Intake finds under a name."""
    from filebroker.faces.discovery import intake_catalogs

    if name not in intake_catalogs:
        raise UnknownCatalogName(f"{error}\n{intake_catalogs.searched()}") from None
    entry = intake_catalogs[name]
    from filebroker.faces.header import Header

    broker = getattr(entry, "v1", None)
    if broker is None or isinstance(broker, Header):
        raise UnknownCatalogName(f"Intake knows {name!r}, but it is no catalog of runs: {type(entry).__name__}")
    return cast("Broker", broker)


def from_config(
    config: Mapping[str, Any],
    auto_register: bool = True,
    name: str | None = None,
    kind: "type[Broker] | None" = None,
) -> "Broker":
    """Open the catalog that a configuration tells of; see `Broker.from_config`.

    Parameters
    ----------
    config
        What a configuration file would hold.
    auto_register
        Also use the handlers that installed packages offer.
    name
        A name for people.
    kind
        A class to make of it that is derived from `Broker`.

    Raises
    ------
    InvalidConfig
        The configuration cannot be used.
    """
    if not isinstance(config, Mapping):
        raise InvalidConfig(f"a configuration is a mapping such as {{'path': '/data/beamtime'}}, not {config!r:.200}")
    content = config if isinstance(config, dict) else dict(config)
    return opened(Config(name or "", None, content), auto_register, kind)


def opened(config: Config, auto_register: bool = True, kind: "type[Broker] | None" = None) -> "Broker":
    """Open the catalog of a configuration.

    Parameters
    ----------
    config
        The configuration.
    auto_register
        Also use the handlers that installed packages offer.
    kind
        A class to make of it that is derived from `Broker`.

    Returns
    -------
    Broker
        Or its version 2 face, if the configuration asks for that.

    Raises
    ------
    InvalidConfig
        The configuration cannot be used.
    NotSupported
        It has transforms of documents that cannot be transformed.
    """
    from filebroker.faces.broker import Broker

    version = config.api_version
    handlers = Handlers(config.handlers, resolved(config.root_map, config.directory), discover=auto_register)
    transforms = parse_transforms(config.transforms)
    broker = (kind or Broker)(_runs(config), name=config.name or None, handlers=handlers, transforms=transforms)
    broker._config = config.content
    return cast("Broker", broker.v2) if version == 2 else broker


def _runs(config: Config) -> Runs:
    """Give the runs of a configuration: all of its catalog's, or those that its searches find."""
    return narrowed_by(_all_runs(config), config.searches)


def _all_runs(config: Config) -> Runs:
    if (store := config.store) is not None:
        warn(store.explain(config.label), FilebrokerWarning)
        return Elsewhere(store, config.label)
    try:
        return Catalog(config.url, **config.options)
    except CatalogNotFound as error:
        if "path" in config.content:
            raise
        raise InvalidConfig(
            f"{config.label} is one of databroker's, and filebroker reads folders of its own: {error}"
        ) from error
