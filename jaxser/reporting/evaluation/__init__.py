"""Evaluated victims: figures of their attacks, and the text, tables and pictures that show them."""
