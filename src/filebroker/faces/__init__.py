"""Thin faces over the catalog: the databroker v1 prompt and the command line."""
