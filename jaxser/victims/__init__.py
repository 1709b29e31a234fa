"""Victims: a module, its variables and its input contract; read from and written to folders."""
