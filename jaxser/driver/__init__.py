"""Rows of (utterance, ε) through the slots of an attack, on any number of devices."""
