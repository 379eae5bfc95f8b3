"""Every exception and warning that filebroker raises.

All errors share the base `FilebrokerError`.  Each also subclasses the builtin that a databroker user
already catches, so that an old ``except KeyError`` goes on working.
"""


class FilebrokerError(Exception):
    """Base of every error raised by filebroker.

    Examples
    --------
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> try:
    ...     header = db[-100]
    ... except FilebrokerError as error:
    ...     print(error)
    Catalog only contains 22 runs. It is ...
    """

    def __str__(self) -> str:
        """Give the message as it was written: `KeyError` shows its `repr`, `OSError` its number."""
        return str(self.args[-1]) if self.args else ""


class InvalidDocument(FilebrokerError, ValueError):
    """A document lacks a required key, or a key holds something of the wrong type.

    Examples
    --------
    >>> from filebroker import temp
    >>> temp().insert("start", {"uid": "84d9ee44"})
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.InvalidDocument: the start document '84d9ee44' has no 'time', ...
    """


class UnstorableValue(InvalidDocument, TypeError):
    """A document holds a value that JSON cannot carry, such as bytes or a datetime.

    Examples
    --------
    >>> from filebroker import temp
    >>> temp().insert("start", {"uid": "84d9ee44", "time": 1763821925.0, "key": b"secret"})
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.UnstorableValue: in the start document '84d9ee44', ['key'] cannot be stored: ...
    """


class UnknownDocumentName(FilebrokerError, AttributeError):
    """The name given with a document is not one of the event model's.

    An `AttributeError`, because databroker raises one.

    Examples
    --------
    >>> from filebroker import temp
    >>> temp().insert("strat", {"uid": "84d9ee44", "time": 1763821925.0})
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.UnknownDocumentName: no document is named 'strat'; the names are ...
    """


class UnknownRun(FilebrokerError, KeyError):
    """A document refers to a run, descriptor or resource that is not being recorded.

    Examples
    --------
    >>> from filebroker import temp
    >>> temp().insert("stop", {"uid": "5cc1", "time": 1763821926.0, "run_start": "84d9ee44", "exit_status": "success"})
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.UnknownRun: the stop document '5cc1' names the run_start '84d9ee44', ...
    """


class DuplicateDocument(FilebrokerError, FileExistsError):
    """A document was inserted twice with different content, or its run is already recorded.

    Examples
    --------
    >>> from filebroker import temp
    >>> db = temp()
    >>> db.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
    >>> try:
    ...     db.insert("start", {"uid": "84d9ee44", "time": 1763821999.0})
    ... except DuplicateDocument as error:
    ...     print(error)
    ... finally:
    ...     db.close()
    the start document '84d9ee44' was inserted before with different content ...
    """


class RunNotFound(FilebrokerError, KeyError):
    """No run in the catalog answers to the given uid, prefix or scan_id.

    Examples
    --------
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> db["no-such-uid"]
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.RunNotFound: no run in ...example has a uid that begins with 'no-such-uid'. ...
    """


class RunInTrash(RunNotFound):
    """The run that was asked for is in the trash, or was removed for good; the message says by whom, and why.

    Examples
    --------
    >>> from filebroker import temp
    >>> db = temp()
    >>> db.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
    >>> db.close()
    >>> db.trash("84d9ee44", "the shutter was closed", author="chen")
    >>> db["84d9ee44"]
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.RunInTrash: the run '84d9ee44' was put into the trash by 'chen' on ...
    """


class NotEnoughRuns(FilebrokerError, IndexError):
    """An index reaches further back than there are runs.

    Examples
    --------
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> db[-100]
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.NotEnoughRuns: Catalog only contains 22 runs. It is ...
    """


class AmbiguousPrefix(FilebrokerError, ValueError):
    """Several runs have a uid that begins with the given prefix.

    Examples
    --------
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> db["c"]
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.AmbiguousPrefix: 'c' is the beginning of 2 uids; give more characters: ...
    """


class InvalidLookup(FilebrokerError, ValueError):
    """A lookup such as ``db[3:]`` that has no meaning for a catalog of runs.

    Examples
    --------
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> db[3:]
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.InvalidLookup: db[3:] would count from the oldest run; ...
    """


class InvalidKey(FilebrokerError, TypeError):
    """What was given to look a run up by is of a type that can name none.

    Examples
    --------
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> db[None]
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.InvalidKey: None names no run; give a position, a scan_id or a uid
    """


class InvalidQuery(FilebrokerError, ValueError):
    """A search that cannot be understood.

    Examples
    --------
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> db(num_points={"$larger": 5})
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.InvalidQuery: the operator '$larger' at ['num_points'] is not known; ...
    """


class QueryTimeout(InvalidQuery, TimeoutError):
    """A regular expression of a search takes too long to try.

    Examples
    --------
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> try:
    ...     count = len(db(plan_name={"$regex": "^(list_)?scan$"}))
    ... except QueryTimeout:
    ...     print("write the expression so that it can match in one way only")
    >>> count
    9
    """


class MissingHandler(FilebrokerError, KeyError):
    """External data was asked for, and nothing is registered that can read it.

    Examples
    --------
    >>> from filebroker import Handlers
    >>> Handlers().find("MY_DETECTOR")
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.MissingHandler: no handler reads 'MY_DETECTOR'; write one and register it: ...
    """


class DuplicateHandler(FilebrokerError, RuntimeError):
    """Another handler is registered for the same spec.

    Examples
    --------
    >>> from filebroker import Handlers
    >>> handlers = Handlers({"TEXT": "builtins:open"})
    >>> handlers.register_handler("TEXT", "pathlib:Path")
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.DuplicateHandler: 'TEXT' is read by <built-in function open>, ...
    """


class UnknownDatum(FilebrokerError, KeyError, ValueError):
    """An event refers to external data that no datum or resource document of the run tells of.

    A `ValueError` too, because event-model raises one.

    Examples
    --------
    >>> from filebroker import Handlers
    >>> from filebroker.assets.datums import Datums
    >>> Datums([], Handlers()).load("84d9ee44/0")
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.UnknownDatum: no datum document of the run has the datum_id '84d9ee44/0', ...
    """


class MissingAsset(FilebrokerError, FileNotFoundError):
    """A file that holds external data is not where its resource says.

    Examples
    --------
    >>> from filebroker import Handlers
    >>> from filebroker.assets.datums import Datums
    >>> resource = {"uid": "84d9ee44", "spec": "TEXT", "root": "/data", "resource_path": "gone.txt"}
    >>> resource["resource_kwargs"] = {}
    >>> datum = {"datum_id": "84d9ee44/0", "resource": "84d9ee44", "datum_kwargs": {}}
    >>> datums = Datums([("resource", resource), ("datum", datum)], Handlers({"TEXT": "builtins:open"}))
    >>> datums.load("84d9ee44/0")
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.MissingAsset: there is no '...gone.txt', which the resource '84d9ee44' of spec 'TEXT' ...
    """


class AssetExists(FilebrokerError, FileExistsError):
    """A file would have been copied in the place of another one.

    Examples
    --------
    >>> import os
    >>> from filebroker.assets.copies import copy_files
    >>> os.makedirs("new")
    >>> for path, text in {"image": "as recorded", "new/image": "another one"}.items():
    ...     with open(path, "w") as file:
    ...         print(text, file=file)
    >>> resource = {"uid": "84d9ee44", "root": os.getcwd(), "resource_path": "image", "spec": "TEXT"}
    >>> copy_files(resource, [os.path.abspath("image")], "new")
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.AssetExists: '...image' is there already, and is not a copy of '...image'; ...
    """


class UnreadableAsset(FilebrokerError, OSError):
    """A file that holds external data is there, and cannot be read, or does not hold what was declared.

    Examples
    --------
    >>> import tempfile
    >>> from filebroker import Handlers
    >>> from filebroker.assets.datums import Datums
    >>> resource = {"uid": "84d9ee44", "spec": "TEXT", "root": "", "resource_path": tempfile.mkdtemp()}
    >>> resource["resource_kwargs"] = {}
    >>> datum = {"datum_id": "84d9ee44/0", "resource": "84d9ee44", "datum_kwargs": {}}
    >>> datums = Datums([("resource", resource), ("datum", datum)], Handlers({"TEXT": "builtins:open"}))
    >>> datums.load("84d9ee44/0")
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.UnreadableAsset: open cannot read the resource '84d9ee44' of spec 'TEXT' ...
    """


class MissingPackage(FilebrokerError, ImportError):
    """What was asked for takes a package that is not installed; the message tells how to install it.

    Examples
    --------
    >>> from filebroker.ground.packages import need
    >>> need("no_such_package")
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.MissingPackage: this needs no_such_package, which is not installed: pip install ...
    """


class UnknownStream(FilebrokerError, KeyError, AttributeError):
    """A run has no stream of the given name.

    An `AttributeError` too, for ``run.name``.

    Examples
    --------
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> db.v2[-1]["darks"]
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.UnknownStream: run '0a00d92c-...' has no stream 'darks'; it has ['baseline', 'primary']
    """


class UnknownField(FilebrokerError, KeyError):
    """No event of the given runs has the field that was asked for.

    Examples
    --------
    >>> import warnings
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> with warnings.catch_warnings(action="ignore"):  # get_images is old
    ...     db.get_images(db[-1], "camera")
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.UnknownField: none of the runs has a field 'camera' in a stream 'primary'
    """


class UnknownDevice(FilebrokerError, KeyError, AttributeError):
    """A stream has no device of the given name.

    An `AttributeError` too, for ``stream.config.name``.

    Examples
    --------
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> db.v2[-1].primary.config["camera"]
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.UnknownDevice: ... has no device 'camera'; it has ['det', 'motor']
    """


class InvalidOption(FilebrokerError, ValueError):
    """An option that means nothing, or two that exclude each other.

    Examples
    --------
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> db.v2[-1].primary(include=["det"], exclude=["motor"])
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.InvalidOption: include and exclude were both given; give one of them
    """


class ProjectionError(FilebrokerError, KeyError):
    """A run has no such projection, or several, or one that cannot be followed.

    Examples
    --------
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> from filebroker.projector import project_xarray
    >>> project_xarray(db.v2[-1])
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.ProjectionError: run '0a00d92c-...' has no projections; ...
    """


class UnfitEvents(FilebrokerError, RuntimeError):
    """Events that cannot be taken apart or put together as asked.

    A `RuntimeError`, because databroker raises one.

    Examples
    --------
    >>> from filebroker.pivot import zip_events
    >>> list(zip_events([{}], [], lazy=False))
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.UnfitEvents: the streams are not equally long, but have [1, 0] events
    """


class InvalidFill(FilebrokerError, ValueError):
    """What is to be done about external data was not one of ``yes``, ``no`` and ``delayed``.

    Examples
    --------
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> list(db.v2[-1].documents(fill="maybe"))
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.InvalidFill: Invalid fill option: 'maybe'; it is one of 'yes', 'no', 'delayed'
    """


class DamagedRun(FilebrokerError, ValueError):
    """The files of a run do not hold what they claim: truncated, altered or missing.

    Examples
    --------
    >>> import os
    >>> from filebroker import Run
    >>> from filebroker.ground.filesystem import Folder
    >>> os.makedirs("run")
    >>> with open("run/documents.jsonl", "w") as file:
    ...     print("garbage", file=file)
    >>> Run(Folder(os.getcwd()), "run")
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.DamagedRun: the run in ...run has no readable start document; ...
    """


class NothingRecorded(DamagedRun):
    """A run's directory was made, but no document of it has been acknowledged (yet).

    Examples
    --------
    >>> import tempfile
    >>> from filebroker import Run
    >>> from filebroker.ground.filesystem import Folder
    >>> Run(Folder(tempfile.mkdtemp()), "20261122T174908.633895Z-84d9ee44")
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.NothingRecorded: the run in ...84d9ee44 has not been started yet, or was removed
    """


class CatalogNotFound(FilebrokerError, FileNotFoundError):
    """No catalog is at the given path, and it was not to be created.

    Examples
    --------
    >>> from filebroker import Broker
    >>> Broker("no_such_directory", read_only=True)
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.CatalogNotFound: there is no filebroker catalog at ...no_such_directory; check the path
    """


class SourceNotFound(FilebrokerError, FileNotFoundError):
    """Nothing is where runs were to be imported from.

    Examples
    --------
    >>> from filebroker import import_runs
    >>> import_runs("/no/such/directory", "my_beamtime")
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.SourceNotFound: there is no file or directory /no/such/directory, ...
    """


class ConfigNotFound(FilebrokerError, FileNotFoundError):
    """No configuration file has the given name.

    Examples
    --------
    >>> from filebroker import lookup_config
    >>> lookup_config("no-such-beamline")
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.ConfigNotFound: no catalog is named 'no-such-beamline': ...
    """


class UnknownCatalogName(FilebrokerError, AttributeError, KeyError):
    """A catalog was asked for by a name that no configuration has.

    An `AttributeError`, because ``Broker.named`` of databroker raises one, and a `KeyError` for ``catalog[name]``.

    Examples
    --------
    >>> from filebroker import Broker
    >>> Broker.named("no-such-beamline")
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.UnknownCatalogName: no catalog is named 'no-such-beamline': ...
    """


class InvalidConfig(FilebrokerError, ValueError):
    """A configuration file that cannot be used.

    Examples
    --------
    >>> from filebroker import Broker
    >>> Broker.from_config({"description": "My beamtime"})
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.InvalidConfig: the configuration names no catalog: it needs a line such as ...
    """


class UnsupportedFormat(FilebrokerError, ValueError):
    """The catalog or run was written in a format that this version cannot read.

    Examples
    --------
    >>> import os
    >>> from filebroker import Broker
    >>> os.makedirs("of_tomorrow")
    >>> with open("of_tomorrow/filebroker.json", "w") as file:
    ...     print('{"format": 99}', file=file)
    >>> Broker("of_tomorrow")
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.UnsupportedFormat: the catalog ...of_tomorrow has format 99 ...; upgrade filebroker
    """


class ReadOnlyCatalog(FilebrokerError, RuntimeError, PermissionError):
    """A document was inserted into a catalog that was opened for reading.

    A `RuntimeError` too, because databroker raises one.

    Examples
    --------
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> db.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.ReadOnlyCatalog: the catalog ...example was opened for reading; nothing can be inserted
    """


class StorageError(FilebrokerError, OSError):
    """The filesystem refused to keep or to give something: full, unreadable, gone.

    Examples
    --------
    >>> from filebroker import Broker
    >>> Broker("no-such-protocol://bucket/beamtime", read_only=True)
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.StorageError: cannot open 'no-such-protocol://bucket/beamtime': Protocol not known: ...
    """


class StoreUnreachable(StorageError, ConnectionError, TimeoutError):
    """An object store or server did not answer in time: no network, timeouts, throttling.

    Examples
    --------
    >>> from filebroker import Broker
    >>> Broker("http://127.0.0.1:9/beamtime")
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.StoreUnreachable: http://127.0.0.1:9/beamtime ...
    """


class AccessDenied(StorageError, PermissionError):
    """An object store refused who asked: wrong, missing or expired credentials, or a right that they lack.

    Examples
    --------
    Somebody else's bucket is no empty one:

    >>> from filebroker import Broker
    >>> def newest(url):
    ...     try:
    ...         return Broker(url)[-1]
    ...     except AccessDenied as error:
    ...         print("log in first:", error)
    """


class MissingStore(StorageError, LookupError):
    """The bucket or container of a URL does not exist.

    Examples
    --------
    A misspelt bucket is no empty one:

    >>> from filebroker import Broker
    >>> def newest(url):
    ...     try:
    ...         return Broker(url)[-1]
    ...     except MissingStore as error:
    ...         print("check the URL:", error)
    """


class InvalidPack(FilebrokerError, ValueError):
    """What should be unpacked is no pack, or is one that is not to be trusted.

    Examples
    --------
    >>> import zipfile
    >>> from filebroker import unpack
    >>> with zipfile.ZipFile("holiday.zip", "w") as archive:
    ...     archive.writestr("beach.jpg", b"...")
    >>> unpack("holiday.zip", "my_beamtime")
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.InvalidPack: holiday.zip is no pack: ...
    """


class PackExists(FilebrokerError, FileExistsError):
    """A pack would have been made in the place of something else.

    Examples
    --------
    >>> from filebroker import Broker, pack
    >>> runs = Broker.named("example").catalog.search({"scan_id": 22})
    >>> pack(runs, "share.zip", zip=True)
    <PackReport: 1 run packed ...>
    >>> pack(runs, "share.zip", zip=True)
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.PackExists: share.zip is there already; ...
    """


class NotSupported(FilebrokerError, NotImplementedError):
    """Something databroker had and filebroker deliberately does not offer.

    Examples
    --------
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> db.reg.copy_files({}, "/archive", verify=True)
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.NotSupported: verify=True was never implemented; a copy appears only when it is complete
    """


class FilebrokerWarning(UserWarning):
    """Base of every warning given by filebroker.

    Examples
    --------
    A script that keeps all of them from being shown:

    >>> import warnings
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> with warnings.catch_warnings(action="ignore", category=FilebrokerWarning):
    ...     table = db[-1].table()
    """


class DamagedRunWarning(FilebrokerWarning):
    """A run cannot be read whole; what could be read of it is given.

    Examples
    --------
    >>> import warnings
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> with warnings.catch_warnings(action="error", category=DamagedRunWarning):  # rather fail than go on with less
    ...     documents = list(db[-1].documents())
    """


class RecoveryWarning(FilebrokerWarning):
    """A run whose recording was cut short was found, and what was done about it.

    Examples
    --------
    >>> import warnings
    >>> from filebroker import Catalog
    >>> catalog = Catalog("my_beamtime")
    >>> catalog.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
    >>> catalog.close()
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     catalog = Catalog("my_beamtime")
    >>> print(told[0].message)
    the recording of the run in ...84d9ee44 was cut short; its 1 documents were sealed, without a stop document.
    """


class AssetWarning(FilebrokerWarning):
    """External data are there, but not as their descriptor declares them.

    Examples
    --------
    >>> import warnings
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> with warnings.catch_warnings(action="error", category=AssetWarning):  # rather fail than go on with others
    ...     table = db[-1].table(fill=True)
    """


class LedgerWarning(FilebrokerWarning):
    """The list of a catalog's runs, or what is derived from it on this machine, is damaged.

    Examples
    --------
    >>> import warnings
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> with warnings.catch_warnings(action="ignore", category=LedgerWarning):  # it is about to be made anew
    ...     db.catalog.reindex()
    """


class NoteWarning(FilebrokerWarning):
    """A file of annotations cannot be used, wholly or in part; everything else is given.

    Examples
    --------
    >>> import warnings
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> with warnings.catch_warnings(action="error", category=NoteWarning):  # all of them have to be good
    ...     db[-1].annotations
    []
    """


class SealWarning(FilebrokerWarning):
    """A run is safe in its journal but could not be sealed yet.

    Examples
    --------
    >>> import warnings
    >>> from filebroker import temp
    >>> db = temp()
    >>> with warnings.catch_warnings(action="ignore", category=SealWarning):  # opening the catalog tries again
    ...     db.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
    >>> db.close()
    """


class UploadWarning(FilebrokerWarning):
    """Runs are safe on this machine, but not in the store that they were recorded for.

    Examples
    --------
    >>> import warnings
    >>> from filebroker import temp
    >>> db = temp()
    >>> with warnings.catch_warnings(action="error", category=UploadWarning):  # rather fail than leave runs behind
    ...     db.close()
    """


class OfflineWarning(FilebrokerWarning):
    """A store cannot be reached, and what was read of it before is given.

    Examples
    --------
    >>> import warnings
    >>> from filebroker import Broker
    >>> with warnings.catch_warnings(action="error", category=OfflineWarning):  # rather fail than miss the newest runs
    ...     run = Broker.named("example")[-1]
    """
