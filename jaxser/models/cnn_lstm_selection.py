"""The seven CNN-LSTM that Facchinetti et al. chose between, M0 to M6; M1 became the final one.

    model = jaxser.models.build("cnn_lstm_m1", num_classes=5)

Source: Facchinetti et al., 2024, section 2.3.1, which says: all read slices in one direction but
M1; M2, M4 and M6 have six LSTM units, the others three; M3 and M4 have a smaller first pool, M3 and
M6 other kernels, M5 twice the filters in every convolution and M6 a fourth convolution; the number
of parameters rises from M0 to M6. What it does not say is chosen here, so that a slice of 29 frames
is enough for all, and the numbers of parameters rise as they do there: a first pool as small as the
others (2 x 2), kernels that fall from block to block as M0's do (5, 3, 2 and 5, 4, 3, 2), and in M6
128 filters in the fourth convolution and a stride of 2 in the first pool alone.
"""

from jaxser.models.cnn_lstm import CnnLstm
from jaxser.models.cnn_lstm_blocks import Block

__all__ = [
    "CnnLstmM0",
    "CnnLstmM1",
    "CnnLstmM2",
    "CnnLstmM3",
    "CnnLstmM4",
    "CnnLstmM5",
    "CnnLstmM6",
]


class CnnLstmM0(CnnLstm):
    """The first model: three LSTM units, one direction, no dropout of the slices."""

    units: int = 3
    bidirectional: bool = False
    dropout: float = 0.0


class CnnLstmM1(CnnLstm):
    """Three LSTM units in each direction."""

    units: int = 3
    dropout: float = 0.0


class CnnLstmM2(CnnLstmM0):
    """Six LSTM units in one direction."""

    units: int = 6


class CnnLstmM3(CnnLstmM0):
    """A smaller first pool and other kernels."""

    blocks: tuple[Block, ...] = (Block(16, 5, 2, 2), Block(32, 3, 2, 2), Block(64, 2, 2, 1))


class CnnLstmM4(CnnLstmM2):
    """A smaller first pool and six LSTM units."""

    blocks: tuple[Block, ...] = (Block(16, 5, 2, 2), Block(32, 3, 2, 2), Block(64, 3, 2, 1))


class CnnLstmM5(CnnLstmM0):
    """Twice the filters in every convolution."""

    blocks: tuple[Block, ...] = (Block(32, 5, 4, 2), Block(64, 3, 2, 2), Block(128, 3, 2, 1))


class CnnLstmM6(CnnLstmM2):
    """A fourth convolution, other kernels and six LSTM units."""

    blocks: tuple[Block, ...] = (
        Block(16, 5, 4, 2),
        Block(32, 4, 2, 1),
        Block(64, 3, 2, 1),
        Block(128, 2, 2, 1),
    )
