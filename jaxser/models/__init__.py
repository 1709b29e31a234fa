"""The architectures, by name.

    model = jaxser.models.build("emo18", num_classes=7)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 16_000)), train=False)
    logits = model.apply(variables, x, train=False)              # x [batch, time] -> [batch, 7]

Every module but a generator is called as ``module(x, train: bool)`` and returns float32 logits;
``x`` is a waveform ``[batch, time]``, a spectrogram ``[batch, frames, bins]`` or a colour image
``[batch, height, width, 3]`` in [0, 1], see :func:`input_of`. A generator (``waveunet``) is no
victim: it makes perturbations, and its class says how it is called. A module's file is imported
when it is first built.

Whole networks are in this folder, what several of them share in :mod:`jaxser.models.layers`, and
what wav2vec 2.0, HuBERT and WavLM are made of in :mod:`jaxser.models.transformer`.
"""

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any, Literal

from jaxser.runtime.errors import UsageError, nearest_name

if TYPE_CHECKING:
    from flax import linen as nn

__all__ = ["Input", "build", "input_of", "names"]

Input = Literal["waveform", "spectrogram", "image"]

# name -> (module of this package, class, what it reads)
_ARCHITECTURES: dict[str, tuple[str, str, Input]] = {
    "alexnet": ("alexnet", "AlexNet", "image"),
    "cnn_lstm": ("cnn_lstm", "CnnLstm", "spectrogram"),
    "cnn_lstm_m0": ("cnn_lstm_selection", "CnnLstmM0", "spectrogram"),
    "cnn_lstm_m1": ("cnn_lstm_selection", "CnnLstmM1", "spectrogram"),
    "cnn_lstm_m2": ("cnn_lstm_selection", "CnnLstmM2", "spectrogram"),
    "cnn_lstm_m3": ("cnn_lstm_selection", "CnnLstmM3", "spectrogram"),
    "cnn_lstm_m4": ("cnn_lstm_selection", "CnnLstmM4", "spectrogram"),
    "cnn_lstm_m5": ("cnn_lstm_selection", "CnnLstmM5", "spectrogram"),
    "cnn_lstm_m6": ("cnn_lstm_selection", "CnnLstmM6", "spectrogram"),
    "cvt-13": ("cvt", "Cvt", "image"),
    "cvt-21": ("cvt", "Cvt21", "image"),
    "echim_cnn_lstm": ("echim_cnn_lstm", "EchimCnnLstm", "image"),
    "emo18": ("emo18", "Emo18", "waveform"),
    "hubert-base": ("hubert", "Hubert", "waveform"),
    "hubert-large": ("hubert", "Hubert", "waveform"),
    "hubert-xlarge": ("hubert", "Hubert", "waveform"),
    "levit-128": ("levit", "Levit128", "image"),
    "levit-128s": ("levit", "Levit128s", "image"),
    "levit-192": ("levit", "Levit192", "image"),
    "levit-256": ("levit", "Levit", "image"),
    "levit-384": ("levit", "Levit384", "image"),
    "vgg16": ("vgg16", "Vgg16", "image"),
    "vit-b16": ("vit", "ViT", "image"),
    "wav2vec2-base": ("wav2vec2", "Wav2Vec2", "waveform"),
    "wav2vec2-large": ("wav2vec2", "Wav2Vec2", "waveform"),
    "wav2vec2-large-robust": ("wav2vec2", "Wav2Vec2", "waveform"),
    "wavlm-base": ("wavlm", "WavLM", "waveform"),
    "wavlm-base-plus": ("wavlm", "WavLM", "waveform"),
    "wavlm-large": ("wavlm", "WavLM", "waveform"),
    "waveunet": ("wave_unet", "WaveUNet", "waveform"),
    "zhao19": ("zhao19", "Zhao19", "waveform"),
}


def names() -> tuple[str, ...]:
    """Names that :func:`build` knows.

    Examples:
      >>> import jaxser
      >>> jaxser.models.names()[:3]
      ('alexnet', 'cnn_lstm', 'cnn_lstm_m0')
    """
    return tuple(sorted(_ARCHITECTURES))


def input_of(name: str) -> Input:
    """What architecture ``name`` reads; UsageError for an unknown one.

    Examples:
      >>> import jaxser
      >>> jaxser.models.input_of("emo18"), jaxser.models.input_of("vgg16")
      ('waveform', 'image')
    """
    return _known(name)[2]


def _known(name: str) -> tuple[str, str, Input]:
    if name not in _ARCHITECTURES:
        raise UsageError(f"there is no model {name!r}; {nearest_name(name, names())}")
    return _ARCHITECTURES[name]


def build(name: str, num_classes: int | None = None, **settings: Any) -> "nn.Module":
    """The Linen module of architecture ``name``.

    Args:
      name: one of :func:`names`.
      num_classes: length of a row of logits; every victim needs it. Of a generator the target
        classes that it tells apart, none by default.
      **settings: the module's other fields; ``dtype`` (also as a string, "bfloat16") is the type
        it computes in. Of a speech transformer also the fields of its configuration, such as
        ``layerdrop``.

    Raises:
      UsageError: unknown name or field, or a field without a default is missing.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jaxser
      >>> model = jaxser.models.build("emo18", num_classes=7)
      >>> x = jnp.zeros((2, 16_000))  # a second of speech, twice
      >>> def initial_logits(key):
      ...     return model.apply(model.init(key, x, train=False), x, train=False)
      >>> jax.eval_shape(initial_logits, jax.random.key(0)).shape
      (2, 7)
    """
    file, cls, _ = _known(name)
    module = importlib.import_module(f"{__name__}.{file}")
    architecture = getattr(module, cls)
    declared = dataclasses.fields(architecture)
    fields = {field.name for field in declared} - {"parent", "name", "num_classes"}
    config = getattr(module, "CONFIGURATIONS", {}).get(name)
    of_config = set() if config is None else {field.name for field in dataclasses.fields(config)}
    for setting in settings:
        if setting not in fields | of_config:
            raise UsageError(
                f"model {name!r} has no setting {setting!r}; "
                f"{nearest_name(setting, fields | of_config)}"
            )
    if config is not None:
        changed = {key: settings.pop(key) for key in of_config & set(settings)}
        settings.setdefault("config", dataclasses.replace(config, **changed))
    if num_classes is not None:
        settings["num_classes"] = num_classes
    for field in declared:
        needed = field.default is field.default_factory is dataclasses.MISSING
        if needed and field.name not in settings:
            raise UsageError(f"model {name!r} cannot be built without {field.name}; give it.")
    return architecture(**settings)
