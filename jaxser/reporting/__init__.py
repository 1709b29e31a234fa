"""Pages, tables and pictures from rows and from benchmark results."""
