"""Proving that runs are whole, and mending what is not."""
