"""Layers that several networks share, one file per family; their gradients are cheap."""
