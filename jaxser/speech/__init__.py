"""Waveforms and spectrograms, before any network: decoding, front ends, and back to sound."""
