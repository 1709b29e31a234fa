"""Rows on disk, and the figures that are made from them."""
