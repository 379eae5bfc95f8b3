"""Data that runs keep in files of their own: who reads them, where they are, and what they give.

Nothing here knows of catalogs, nor how documents are stored.
"""
