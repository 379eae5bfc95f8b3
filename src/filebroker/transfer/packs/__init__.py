"""Runs as files: packs to give away, copies between catalogs, and the external files that go along."""
