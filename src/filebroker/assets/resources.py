"""What a stream_resource says, whichever form it is written in."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from filebroker.assets import remotes
from filebroker.assets.places import locate
from filebroker.ground.documents import OPTIONAL

#: What the specs of stream_resources before event-model 1.20 stand for, and the dataset that they leave unsaid.
_SPECS = {
    **dict.fromkeys(
        (
            *("AD_HDF5", "AD_HDF5_SINGLE", "AD_HDF5_SWMR", "AD_HDF5_SWMR_STREAM", "AD_HDF5_SWMR_SLICE"),
            *("ADHDF5_SWMR_STREAM", "HDF5", "hdf5"),
        ),
        ("application/x-hdf5", "/entry/data/data"),
    ),
    **dict.fromkeys(("XSP", "XSP3", "TPX_HDF5"), ("application/x-hdf5", "/entry/instrument/detector/data")),
    "AD_TIFF": ("multipart/related;type=image/tiff", ""),
    "NPY_SEQ": ("multipart/related;type=application/x-npy", ""),
}
_NUMBER = re.compile(r"%[-+#0 ]*\d*(?:\.\d+)?d")


@dataclass(frozen=True)
class StreamResource:
    """One file, or one sequence of files, that holds the values of a data key.

    Attributes
    ----------
    uid : str
        Of the document.
    data_key : str
        Whose values they are.
    mimetype : str
        Of the file, in lower case and without blanks; the spec, if that is all there is and it is none we know.
    uri : str
        Of the file, or the beginning of the names of several; or a path.
    parameters : dict
        How it is to be read.
    fault : str
        What keeps it from being read; empty if the document makes sense.
    packed : str, optional
        The directory that its files were packed into, below which the URI is then a path or a URL.
    """

    uid: str
    data_key: str
    mimetype: str
    uri: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    packed: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Whoever gets a copy in another process reads the same store.
        options = None if self.packed is None else remotes.options_for(self.packed)
        return {**self.__dict__, "_options": options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        options = state.pop("_options")
        self.__dict__.update(state)
        if self.packed is not None and options is not None:
            remotes.remember(self.packed, options)

    @property
    def about(self) -> str:
        """What to call it in a message."""
        return f"{self.data_key!r} (stream_resource {self.uid})"

    @property
    def template(self) -> str:
        """What names the files of a sequence; empty if there is one file."""
        return str(self.parameters.get("template") or "")

    def uris(self, number: int, fallback: str = "") -> Iterator[str]:
        """Give the URIs that a file of a sequence may have: as it is written, then as it may be meant.

        Parameters
        ----------
        number
            The number of the file.
        fallback
            A template that names the files if the resource's own does not.

        Raises
        ------
        KeyError, IndexError, ValueError
            The template asks for more than a number and the file name.
        """
        templates = [template for template in dict.fromkeys((self.template, fallback)) if template]
        if not templates:
            yield self.uri
        for template in templates:
            name = rendered(template, number, str(self.parameters.get("filename") or ""))
            if name.startswith("/"):
                yield self.uri.rstrip("/") + name
            else:
                yield self.uri + name
                if not self.uri.endswith("/"):
                    yield f"{self.uri}/{name}"


def normalised(doc: Mapping[str, Any]) -> StreamResource:
    """Read a stream_resource document, of this or of an earlier form.

    One that makes no sense is no error before its values are asked for; its `fault` says why.

    Examples
    --------
    >>> old = {"uid": "1", "data_key": "det", "spec": "AD_HDF5", "root": "/data", "resource_path": "a.h5"}
    >>> resource = normalised(old)
    >>> resource.mimetype, resource.uri, resource.parameters
    ('application/x-hdf5', '/data/a.h5', {'dataset': '/entry/data/data'})
    """
    data_key = doc.get("data_key", "")
    if fault := _fault(doc):
        return StreamResource(doc["uid"], data_key if isinstance(data_key, str) else "", "", "", {}, fault)
    parameters = dict(doc.get("parameters") or doc.get("resource_kwargs") or {})
    mimetype = doc.get("mimetype")
    if mimetype is None:
        mimetype, dataset = _SPECS.get(doc.get("spec", ""), (doc.get("spec", ""), ""))
        if dataset and not parameters.get("path"):
            parameters.setdefault("dataset", dataset)
    else:
        mimetype = re.sub(r"\s+", "", mimetype).lower()
    uri = doc.get("uri")
    if uri is None:
        uri = locate({"root": "", **doc}, {}).recorded
    return StreamResource(doc["uid"], data_key, mimetype, uri, parameters)


def _fault(doc: Mapping[str, Any]) -> str:
    """Say what makes no sense in a stream_resource document."""
    for key, kind in OPTIONAL["stream_resource"].items():
        value = doc.get(key)
        if value is not None and not isinstance(value, kind):
            return f"it has {key!r} of type {type(value).__name__}, and not {kind.__name__}"
    if doc.get("uri") is None and doc.get("resource_path") is None:
        return "it has neither a 'uri' nor a 'resource_path'"
    return ""


def rendered(template: str, number: int, filename: str = "") -> str:
    """Give the name that a template makes of a number.

    A template is written with ``%`` or with braces.  The first string in it is the file name, others are empty, as
    areaDetector has it.

    Examples
    --------
    >>> rendered("%s%s_%6.6d.tiff", 42, "scan"), rendered("img_{:05d}.jpg", 42)
    ('scan_000042.tiff', 'img_00042.jpg')
    """
    named = template.replace("{:s}", "%s").replace("%s", filename, 1).replace("%s", "")
    counted = _NUMBER.sub(lambda found: found[0] % number, named)
    return counted.format(number) if "{" in template.replace("{:s}", "") else counted
