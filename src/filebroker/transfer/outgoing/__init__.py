"""Giving runs to other programs: one module for each format, and what they share."""
