"""Runs as JSON lines, as suitcase-jsonl writes them and databroker reads them."""

from typing import BinaryIO

from filebroker.ground import codec
from filebroker.transfer.outgoing.documents import documents
from filebroker.transfer.outgoing.job import Job


def write(job: Job) -> None:
    """Write the documents of a run to one file, one ``[name, document]`` a line.

    Parameters
    ----------
    job
        The run.

    Raises
    ------
    AssetExists, StorageError
        As for `Target.path`.
    """
    with job.file(job.file_name(".jsonl")) as file:
        write_run(job, file)


def write_run(job: Job, file: BinaryIO) -> None:
    """Write the documents of a run as JSON lines.

    Parameters
    ----------
    job
        The run.
    file
        Where to write.
    """
    for name, doc in documents(job):
        file.write(codec.dumps([name, doc]) + b"\n")
