"""Thin faces over the catalog: the prompts of databroker, version 1 and 2."""
