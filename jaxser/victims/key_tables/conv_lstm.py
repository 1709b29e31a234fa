"""Keys of the ConvLSTM victims Emo18 and Zhao19 in PyTorch."""

from jaxser.victims.key_tables.entries import Entry, batch_norm, kept, linear, lstm, transposed

__all__ = ["conv_lstm_table"]


def conv_lstm_table(blocks: int) -> tuple[Entry, ...]:
    """Key table of a PyTorch ConvLSTM (Emo18: 3 blocks, Zhao19: 4).

    There, ``features`` is a ``Sequential`` of Conv1d, BatchNorm1d, activation and MaxPool1d per
    block, ``lstm`` an ``LSTM`` of two layers, ``head`` a ``Linear``.
    """
    entries = []
    for block in range(blocks):
        here, conv = f"block{block}", f"features.{4 * block}"
        entries += [
            transposed(("params", here, "kernel"), f"{conv}.weight"),
            kept(("params", here, "bias"), f"{conv}.bias"),
            *batch_norm((here,), f"features.{4 * block + 1}", prefix="norm_"),
        ]
    for layer in range(2):
        entries += lstm(("params", f"lstm{layer}"), "lstm", f"l{layer}")
    return (*entries, *linear(("params", "head"), "head"))
