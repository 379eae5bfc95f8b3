"""The catalog, and the runs and streams it holds: one door in, one door out.

Nothing here knows of databroker, of Intake or of a command line.
"""
