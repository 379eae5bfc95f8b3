"""Runs as msgpack, as suitcase-msgpack writes them and databroker reads them."""

from filebroker.ground.errors import UnstorableValue
from filebroker.ground.packages import need
from filebroker.transfer.outgoing.documents import documents
from filebroker.transfer.outgoing.job import Job


def write(job: Job) -> None:
    """Write the documents of a run to one file, one ``(name, document)`` after the other.

    Parameters
    ----------
    job
        The run.

    Raises
    ------
    UnstorableValue
        An integer is beyond 64 bits, or a text is half a surrogate pair: msgpack has no room for that.
    AssetExists, StorageError
        As for `Target.path`.
    """
    msgpack, arrays = need("msgpack"), need("msgpack_numpy")
    with job.file(job.file_name(".msgpack")) as file:
        packer = msgpack.Packer(default=arrays.encode, use_bin_type=True)
        for name, doc in documents(job):
            try:
                file.write(packer.pack((name, doc)))
            except (OverflowError, UnicodeEncodeError, ValueError) as error:
                raise UnstorableValue(
                    f"its {name} document {doc.get('uid', '')!r} holds what msgpack has no room for: {error}. "
                    "Export it as jsonl, which has"
                ) from error
