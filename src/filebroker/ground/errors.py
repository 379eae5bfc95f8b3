"""Every exception and warning that filebroker raises.

All errors share the base `FilebrokerError`.  Each also subclasses the builtin that a databroker user
already catches, so that an old ``except KeyError`` goes on working.
"""


class FilebrokerError(Exception):
    """Base of every error raised by filebroker."""

    def __str__(self) -> str:
        """Give the message as it was written: `KeyError` shows its `repr`, `OSError` its number."""
        return str(self.args[-1]) if self.args else ""


class InvalidDocument(FilebrokerError, ValueError):
    """A document lacks a required key, or a key holds something of the wrong type."""


class UnstorableValue(InvalidDocument, TypeError):
    """A document holds a value that JSON cannot carry, such as bytes or a datetime."""


class UnknownDocumentName(FilebrokerError, AttributeError):
    """The name given with a document is not one of the event model's.

    An `AttributeError`, because databroker raises one.
    """


class UnknownRun(FilebrokerError, KeyError):
    """A document refers to a run, descriptor or resource that is not being recorded."""


class DuplicateDocument(FilebrokerError, FileExistsError):
    """A document was inserted twice with different content, or its run is already recorded."""


class RunNotFound(FilebrokerError, KeyError):
    """No run in the catalog answers to the given uid, prefix or scan_id."""


class NotEnoughRuns(FilebrokerError, IndexError):
    """An index reaches further back than there are runs."""


class AmbiguousPrefix(FilebrokerError, ValueError):
    """Several runs have a uid that begins with the given prefix."""


class InvalidLookup(FilebrokerError, ValueError):
    """A lookup such as ``db[3:]`` that has no meaning for a catalog of runs."""


class InvalidKey(FilebrokerError, TypeError):
    """What was given to look a run up by is of a type that can name none."""


class InvalidQuery(FilebrokerError, ValueError):
    """A search that cannot be understood."""


class QueryTimeout(InvalidQuery, TimeoutError):
    """A regular expression of a search takes too long to try."""


class MissingHandler(FilebrokerError, KeyError):
    """External data was asked for, and nothing is registered that can read it."""


class DuplicateHandler(FilebrokerError, RuntimeError):
    """Another handler is registered for the same spec."""


class UnknownDatum(FilebrokerError, KeyError, ValueError):
    """An event refers to external data that no datum or resource document of the run tells of.

    A `ValueError` too, because event-model raises one.
    """


class MissingAsset(FilebrokerError, FileNotFoundError):
    """A file that holds external data is not where its resource says."""


class AssetExists(FilebrokerError, FileExistsError):
    """A file would have been copied in the place of another one."""


class UnreadableAsset(FilebrokerError, OSError):
    """A file that holds external data is there, and cannot be read, or does not hold what was declared."""


class MissingPackage(FilebrokerError, ImportError):
    """What was asked for takes a package that is not installed; the message tells how to install it."""


class UnknownStream(FilebrokerError, KeyError, AttributeError):
    """A run has no stream of the given name.

    An `AttributeError` too, for ``run.name``.
    """


class UnknownField(FilebrokerError, KeyError):
    """No event of the given runs has the field that was asked for."""


class UnknownDevice(FilebrokerError, KeyError, AttributeError):
    """A stream has no device of the given name.

    An `AttributeError` too, for ``stream.config.name``.
    """


class InvalidOption(FilebrokerError, ValueError):
    """An option that means nothing, or two that exclude each other."""


class ProjectionError(FilebrokerError, KeyError):
    """A run has no such projection, or several, or one that cannot be followed."""


class UnfitEvents(FilebrokerError, RuntimeError):
    """Events that cannot be taken apart or put together as asked.

    A `RuntimeError`, because databroker raises one.
    """


class InvalidFill(FilebrokerError, ValueError):
    """What is to be done about external data was not one of ``yes``, ``no`` and ``delayed``."""


class DamagedRun(FilebrokerError, ValueError):
    """The files of a run do not hold what they claim: truncated, altered or missing."""


class NothingRecorded(DamagedRun):
    """A run's directory was made, but no document of it has been acknowledged (yet)."""


class CatalogNotFound(FilebrokerError, FileNotFoundError):
    """No catalog is at the given path, and it was not to be created."""


class ConfigNotFound(FilebrokerError, FileNotFoundError):
    """No configuration file has the given name."""


class UnknownCatalogName(FilebrokerError, AttributeError, KeyError):
    """A catalog was asked for by a name that no configuration has.

    An `AttributeError`, because ``Broker.named`` of databroker raises one, and a `KeyError` for ``catalog[name]``.
    """


class InvalidConfig(FilebrokerError, ValueError):
    """A configuration file that cannot be used."""


class UnsupportedFormat(FilebrokerError, ValueError):
    """The catalog or run was written in a format that this version cannot read."""


class ReadOnlyCatalog(FilebrokerError, RuntimeError, PermissionError):
    """A document was inserted into a catalog that was opened for reading.

    A `RuntimeError` too, because databroker raises one.
    """


class StorageError(FilebrokerError, OSError):
    """The filesystem refused to keep or to give something: full, unreadable, gone."""


class NotSupported(FilebrokerError, NotImplementedError):
    """Something databroker had and filebroker deliberately does not offer."""


class FilebrokerWarning(UserWarning):
    """Base of every warning given by filebroker."""


class DamagedRunWarning(FilebrokerWarning):
    """A run cannot be read whole; what could be read of it is given."""


class RecoveryWarning(FilebrokerWarning):
    """A run whose recording was cut short was found, and what was done about it."""


class AssetWarning(FilebrokerWarning):
    """External data are there, but not as their descriptor declares them."""


class LedgerWarning(FilebrokerWarning):
    """The list of a catalog's runs, or what is derived from it on this machine, is damaged."""


class SealWarning(FilebrokerWarning):
    """A run is safe in its journal but could not be sealed yet."""
