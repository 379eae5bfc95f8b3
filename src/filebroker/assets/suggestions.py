"""Which package brings the handler of a spec, so that an error can name it."""

_HANDLERS = "area-detector-handlers"
_TUTORIALS = '"git+https://github.com/bluesky/tutorials#subdirectory=bluesky-tutorial-utils"'

#: The specs of published packages, from their ``databroker.handlers`` entry points, to what pip is to install.
PACKAGES: dict[str, str] = {
    **dict.fromkeys(
        (
            *("AD_CBF", "AD_EIGER", "AD_EIGER2", "AD_EIGER_SLICE", "AD_HDF5", "AD_HDF5_SINGLE", "AD_HDF5_SWMR"),
            *("AD_HDF5_SWMR_TS", "AD_HDF5_TS", "AD_SPE", "AD_TIFF", "DEXELA_FLY_V1", "IMM", "MERLIN_FLY"),
            *("MERLIN_FLY_STREAM_V1", "SPECS_HDF5_SINGLE_DATAFRAME", "TPX_HDF5", "XPS3_FLY", "XSP3", "XSP3_FLY"),
        ),
        _HANDLERS,
    ),
    "NPY_SEQ": "ophyd",
    **dict.fromkeys(("newton", "npy", "npy_FRAMEWISE"), _TUTORIALS),
}


def advice(spec: str) -> str:
    """Say how to come by a handler of a spec.

    Examples
    --------
    >>> print(advice("AD_TIFF"))
    pip install area-detector-handlers
    >>> print(advice("OUR_CAMERA"))
    write one and register it:
        class Handler:
            def __init__(self, path, **resource_kwargs): ...
            def __call__(self, **datum_kwargs): ...  # gives an array
        db.reg.register_handler('OUR_CAMERA', Handler)
    """
    package = PACKAGES.get(spec)
    if package is not None:
        return f"pip install {package}"
    return (
        "write one and register it:\n"
        "    class Handler:\n"
        "        def __init__(self, path, **resource_kwargs): ...\n"
        "        def __call__(self, **datum_kwargs): ...  # gives an array\n"
        f"    db.reg.register_handler({spec!r}, Handler)"
    )
