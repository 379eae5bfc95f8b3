"""How one run is kept: names, journal, pages, writing, recovering and reading.

Nothing here knows of catalogs or of queries.
"""
