"""What everything else stands on: errors, the JSON codec, filesystems, configuration.

Nothing here knows of runs on disk, of catalogs or of queries.
"""
