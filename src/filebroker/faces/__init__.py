"""Thin faces over the core: the databroker v1 prompt and the command line."""
