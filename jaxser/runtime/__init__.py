"""The machine and the disk: devices, compiled programs, checkpoints, files, errors, provenance."""
