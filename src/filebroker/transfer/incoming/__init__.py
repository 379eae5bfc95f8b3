"""Taking runs in: from files, packs of databroker, databroker itself, and anything that gives documents."""
