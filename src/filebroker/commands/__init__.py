"""The command ``filebroker``: verbs that are thin over public Python functions."""
