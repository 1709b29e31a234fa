"""Layouts and printed figures of the papers' tables."""
