"""databroker's drivers by name, so that a program that asks whether a catalog is one of them gets an answer.

A catalog of ours is one as far as `isinstance` goes: it has the face of databroker's version 2 catalogs, and lists its
runs newest first.  None can be made by these names, because filebroker does not read what they read.
"""
