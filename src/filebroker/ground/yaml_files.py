"""YAML files that hold a mapping: those of a directory, and what they hold."""

import os
from typing import Any

from filebroker.ground.errors import InvalidConfig

ENDINGS = (".yml", ".yaml")


def files_in(directory: str) -> list[str]:
    """List the YAML files of a directory, sorted; a directory that cannot be listed has none.

    A YAML file is given itself.

    Examples
    --------
    >>> files_in("/no/such/directory")
    []
    """
    try:
        names = sorted(os.listdir(directory))
    except NotADirectoryError:
        return [directory] if directory.endswith(ENDINGS) else []
    except OSError:
        return []  # most of the directories that may hold configurations exist nowhere
    return [os.path.join(directory, name) for name in names if name.endswith(ENDINGS)]


def read_mapping(file: str) -> dict[str, Any]:
    """Give what a YAML file holds.

    Raises
    ------
    InvalidConfig
        It cannot be read, is no YAML, or holds no mapping.
    """
    import yaml

    try:
        with open(file, encoding="utf-8") as stream:
            content = yaml.safe_load(stream)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidConfig(str(error)) from None
    if not isinstance(content, dict):
        raise InvalidConfig(
            f"it holds {content!r:.60} where lines such as 'path: /data/beamtime' are due (mind the space)"
        )
    return content
