"""Keys of the CNN-LSTM victims in PyTorch."""

from jaxser.victims.key_tables.entries import Entry, batch_norm, conv2d, linear, lstm

__all__ = ["cnn_lstm_table"]


def cnn_lstm_table(bidirectional: bool = True) -> tuple[Entry, ...]:
    """Key table of a PyTorch CNN-LSTM (``cnn_lstm`` and its relatives).

    There, ``conv0`` to ``conv2`` are Conv2d, ``norm`` a BatchNorm2d, ``lstm`` an ``LSTM`` of one
    layer that reads features in the order (frames, bands, channels), ``head`` a ``Linear``.
    """
    entries = [*batch_norm(("BatchNorm_0",), "norm"), *linear(("params", "Dense_0"), "head")]
    for block in range(3):
        here, there = ("params", f"Conv_{block}"), f"conv{block}"
        entries += conv2d(here, there)
    entries += lstm(("params", "forward"), "lstm", "l0")
    if bidirectional:
        entries += lstm(("params", "backward"), "lstm", "l0_reverse")
    return tuple(entries)
