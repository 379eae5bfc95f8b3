"""Runs as entries of Intake's catalogs: drivers that work with Intake from 0.6.4 to 2.

Where a catalog of Intake says ``driver: filebroker``, and in ``intake.open_filebroker(url)``, Intake makes an
`IntakeCatalog`.  Its entries are `IntakeRun`, and theirs `IntakeStream`.  Nothing is opened before it is asked for,
and no document passes through Intake's templates.
"""
