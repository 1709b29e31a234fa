"""Weights of others: folders of Hugging Face with a speech transformer, and STAA-Net's generator.

    found = read_pretrained("PATH/TO/wav2vec2-base-superb-er")
    logits = found.module.apply(found.variables, x)
    write_pretrained(found.module, found.variables, found.labels, "OUT")

Read are ``config.json``, ``model.safetensors`` (also in shards) and ``preprocessor_config.json``;
PyTorch is not needed, and nothing is unpickled. A checkpoint without a classification head gets a
new one. What is written, transformers' PyTorch classes load without a missing or unexpected key.

    generator = jaxser.models.build("waveunet", num_samples=96_000)
    variables = read_generator("staanet.safetensors", generator)
    write_generator("OUT.safetensors", generator, variables)
"""

import dataclasses
import json
import logging
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Array
from pydantic import TypeAdapter, ValidationError

from jaxser.models.hubert import Hubert, HubertConfig
from jaxser.models.speech_transformer import SpeechTransformer
from jaxser.models.transformer.configuration import SpeechConfig
from jaxser.models.wav2vec2 import Wav2Vec2, Wav2Vec2Config
from jaxser.models.wave_unet import WaveUNet
from jaxser.models.wavlm import WavLM, WavLMConfig
from jaxser.runtime.errors import InputError, UsageError, nearest_name
from jaxser.runtime.files import atomic_file, write_text
from jaxser.victims import params

__all__ = [
    "Pretrained",
    "copy_architecture",
    "fetch_from_hub",
    "generator_shapes",
    "is_pretrained_folder",
    "pretrained_module",
    "read_generator",
    "read_pretrained",
    "read_safetensors",
    "write_generator",
    "write_pretrained",
]

_log = logging.getLogger(__name__)

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

_CONVERTER = "python -m scripts.convert_to_safetensors"


@dataclasses.dataclass(frozen=True)
class _Family:
    config: type[SpeechConfig]
    module: type[SpeechTransformer]
    table: Callable[[SpeechConfig], tuple[params.Entry, ...]]
    torch_class: str  # without what it is for


_FAMILIES = {
    "wav2vec2": _Family(Wav2Vec2Config, Wav2Vec2, params.wav2vec2_table, "Wav2Vec2"),
    "hubert": _Family(HubertConfig, Hubert, params.hubert_table, "Hubert"),
    "wavlm": _Family(WavLMConfig, WavLM, params.wavlm_table, "WavLM"),
}

# Fields of a configuration that are in the other file, and those that only HuBERT's classes read.
_OF_PREPROCESSOR = ("do_normalize", "return_attention_mask", "sampling_rate")
_OF_HUBERT = ("feat_proj_layer_norm", "conv_pos_batch_norm")

# What checkpoints hold beside the model: heads of pre-training and of speech recognition.
_OTHER_HEADS = ("lm_head.", "quantizer.", "project_q.", "project_hid.")
_OWN_HEAD = ("projector.", "classifier.", "layer_weights")

# Weight normalisation as PyTorch spelt it before its parametrisations.
_OLD_SPELLINGS = {
    ".conv.weight_g": ".conv.parametrizations.weight.original0",
    ".conv.weight_v": ".conv.parametrizations.weight.original1",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained:
    """What a folder holds.

    Attributes:
      module: the architecture, with a head for the labels.
      variables: its variables, NumPy arrays in float32.
      labels: class names in index order.
      new: what the folder did not hold and was drawn at random: "classification head",
        "classifier" or "mask embedding".
    """

    module: SpeechTransformer
    variables: dict[str, Any]
    labels: tuple[str, ...]
    new: tuple[str, ...] = ()


def is_pretrained_folder(folder: Path | str) -> bool:
    """Whether ``folder`` looks like a checkpoint in Hugging Face's layout."""
    folder = Path(folder)
    return any((folder / name).is_file() for name in (CONFIG, WEIGHTS, INDEX))


# --- reading -------------------------------------------------------------------------------


def read_pretrained(
    folder: Path | str,
    labels: Sequence[str] | int | None = None,
    seed: int = 0,
    **settings: Any,
) -> Pretrained:
    """The module and variables in ``folder``.

    Args:
      folder: with ``config.json`` and safetensors of a wav2vec 2.0, HuBERT or WavLM model: with a
        head for classification, for pre-training or for CTC, or with none.
      labels: class names, or how many classes; those of ``id2label`` by default. Other labels
        than the checkpoint's, and a checkpoint without a classification head, make a new
        classifier, which is logged.
      seed: of what is new.
      **settings: fields of the module (``dtype``, ``scan_layers`` ...) or of its configuration
        (``layerdrop`` ...).

    Raises:
      InputError: a file is missing or damaged, or the model is none of these; all keys that do not
        fit are named.
      UsageError: unknown setting.
    """
    folder = Path(folder)
    entries = _read_json(folder / CONFIG)
    config = _configuration(folder, entries)
    family = _FAMILIES[config.model_type]
    config, settings = _with_settings(config, family.module, settings)
    has_head = _has_head(folder, entries, family)
    state = _read_weights(folder)
    state, faults = _canonical(state, config.model_type)

    theirs = _id2label(folder, entries)
    names = _chosen_labels(folder, labels, theirs, has_head)
    new: dict[str, tuple[str, ...]] = {}
    if not has_head:
        new["classification head"] = _OWN_HEAD
    elif theirs is not None and names != theirs:
        new["classifier"] = ("classifier.",)
    embedding = f"{config.model_type}.masked_spec_embed"
    if config.masks and embedding not in state:
        new["mask embedding"] = (embedding,)

    drawn = tuple(prefix for prefixes in new.values() for prefix in prefixes)
    others = (*_OTHER_HEADS, *drawn, *(() if config.masks else (embedding,)))
    state = {key: array for key, array in state.items() if not key.startswith(others)}
    module = family.module(num_classes=len(names), config=config, **settings)
    variables = _variables(module, family.table(config), state, drawn, seed, faults, folder)
    if new:
        _log.warning(
            "%s: the %s for %d classes is new and untrained.",
            folder,
            " and the ".join(new),
            len(names),
        )
    return Pretrained(module, variables, names, tuple(new))


def pretrained_module(folder: Path | str, num_classes: int, **settings: Any) -> SpeechTransformer:
    """The architecture in ``folder`` with a head for so many classes; no weights are read.

    Raises:
      InputError, UsageError: as :func:`read_pretrained`.
    """
    folder = Path(folder)
    config = _configuration(folder, _read_json(folder / CONFIG))
    family = _FAMILIES[config.model_type].module
    config, settings = _with_settings(config, family, settings)
    return family(num_classes=num_classes, config=config, **settings)


def copy_architecture(folder: Path | str, out: Path | str) -> None:
    """Copy what says how the model in ``folder`` is built, without its weights, to ``out``."""
    for name in (CONFIG, PREPROCESSOR):
        if (Path(folder) / name).is_file():
            write_text(Path(out) / name, (Path(folder) / name).read_text(encoding="utf-8"))


def _variables(
    module: SpeechTransformer,
    table: Sequence[params.Entry],
    state: Mapping[str, np.ndarray],
    drawn: tuple[str, ...],
    seed: int,
    faults: Sequence[str],
    folder: Path,
) -> dict[str, Any]:
    """Variables from ``state``, and at random where a source begins with one of ``drawn``."""
    plain = module.clone(scan_layers=False, attention="xla")
    x = jnp.zeros((1, module.config.shortest_input()))
    shapes = jax.eval_shape(plain.init, jax.random.key(0), x)
    fresh = [entry for entry in table if drawn and entry.sources[0].startswith(drawn)]
    known = [entry for entry in table if entry not in fresh]
    variables = params.from_torch(state, known, shapes=shapes, faults=faults, where=str(folder))

    @jax.jit
    def draw(key: Array) -> list[Array]:
        initial = plain.init(key, x)
        return [params.lookup(initial, entry.target) for entry in fresh]

    if fresh:
        for entry, array in zip(fresh, draw(jax.random.key(seed)), strict=True):
            params.place(variables, entry.target, np.asarray(array))
    return params.stack_layers(variables) if module.scan_layers else variables


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(
            f"{path.parent} has no {path.name}, so it is no checkpoint in Hugging Face's layout; "
            "give the folder that holds config.json and model.safetensors."
        )
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is damaged ({error}); download it again.") from error
    if not isinstance(entries, dict):
        raise InputError(f"{path} holds no JSON object; download it again.")
    return entries


def _configuration(folder: Path, entries: Mapping[str, Any]) -> SpeechConfig:
    """The architecture that config.json and preprocessor_config.json describe."""
    kind = entries.get("model_type")
    if kind not in _FAMILIES:
        raise InputError(
            f"{folder / CONFIG} describes a model of type {kind!r}, which is not supported; "
            f"use one of {', '.join(sorted(_FAMILIES))}."
        )
    if entries.get("add_adapter") or entries.get("adapter_attn_dim") is not None:
        raise InputError(
            f"{folder} holds a model with adapters (add_adapter or adapter_attn_dim in {CONFIG}), "
            "which are not supported; use a checkpoint without."
        )
    preprocessor: dict[str, Any] = {}
    if (folder / PREPROCESSOR).is_file():
        preprocessor = _read_json(folder / PREPROCESSOR)
    else:
        _log.warning(
            "%s has no %s: taken to be for normalised speech at 16000 Hz.", folder, PREPROCESSOR
        )
    cls = _FAMILIES[kind].config
    types = typing.get_type_hints(cls)
    values = {}
    for field in dataclasses.fields(cls):
        if field.name in _OF_HUBERT and kind != "hubert":
            continue
        source, file = (
            (preprocessor, PREPROCESSOR) if field.name in _OF_PREPROCESSOR else (entries, CONFIG)
        )
        if field.name not in source:
            continue
        try:
            value = TypeAdapter(types[field.name]).validate_python(source[field.name])
        except ValidationError as error:
            raise InputError(
                f"{field.name} in {folder / file} is {source[field.name]!r}: "
                f"{error.errors()[0]['msg']}; download the file again."
            ) from error
        values[field.name] = value
    return cls(**values)


def _with_settings(
    config: SpeechConfig, module: type[SpeechTransformer], settings: Mapping[str, Any]
) -> tuple[SpeechConfig, dict[str, Any]]:
    """``settings`` split into a changed configuration and the fields of the module."""
    of_config = {field.name for field in dataclasses.fields(config)}
    of_module = {field.name for field in dataclasses.fields(module)}
    of_module -= {"parent", "name", "num_classes", "config"}
    for setting in settings:
        if setting not in of_config | of_module:
            raise UsageError(
                f"a checkpoint has no setting {setting!r}; "
                f"{nearest_name(setting, of_config | of_module)}"
            )
    changed = {key: value for key, value in settings.items() if key in of_config}
    rest = {key: value for key, value in settings.items() if key not in of_config}
    return dataclasses.replace(config, **changed), rest


def _has_head(folder: Path, entries: Mapping[str, Any], family: _Family) -> bool:
    """Whether the model was saved with a head for classification."""
    architecture = (entries.get("architectures") or [f"{family.torch_class}Model"])[0]
    purpose = str(architecture).removeprefix(family.torch_class)
    if purpose not in ("ForSequenceClassification", "Model", "ForPreTraining", "ForCTC"):
        raise InputError(
            f"{folder} holds a {architecture}, which is not supported; use a "
            f"{family.torch_class}ForSequenceClassification, Model, ForPreTraining or ForCTC."
        )
    return purpose == "ForSequenceClassification"


def _id2label(folder: Path, entries: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Class names in index order; None where the file names none."""
    labels = entries.get("id2label")
    if not isinstance(labels, dict) or not labels:
        return None
    try:
        by_index = {int(index): str(label) for index, label in labels.items()}
    except ValueError:
        by_index = {}
    if sorted(by_index) != list(range(len(labels))):
        raise InputError(
            f"id2label in {folder / CONFIG} does not number its {len(labels)} labels from 0; "
            "correct it."
        )
    return tuple(by_index[index] for index in range(len(by_index)))


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"LABEL_{index}" for index in range(count))


def _chosen_labels(
    folder: Path,
    wanted: Sequence[str] | int | None,
    theirs: tuple[str, ...] | None,
    has_head: bool,
) -> tuple[str, ...]:
    """The labels of the victim; the checkpoint's names give way to those that are wanted."""
    if wanted is None:
        if theirs is None and has_head:
            theirs = _numbered(2)  # transformers' own default, which it does not write
        if theirs is None:
            raise InputError(
                f"{folder} has neither a classification head nor labels (id2label in {CONFIG}); "
                "give the labels of your classes."
            )
        return theirs
    if isinstance(wanted, int):
        return theirs if theirs is not None and len(theirs) == wanted else _numbered(wanted)
    return tuple(wanted)


def _read_weights(folder: Path) -> dict[str, np.ndarray]:
    """All arrays of the folder's safetensors, in float32."""
    if (folder / INDEX).is_file() and not (folder / WEIGHTS).is_file():
        places = _read_json(folder / INDEX).get("weight_map")
        if not isinstance(places, dict):
            raise InputError(f"{folder / INDEX} has no weight_map; download it again.")
        files = sorted({Path(str(name)).name for name in places.values()})
        absent = [name for name in files if not (folder / name).is_file()]
        if absent:
            raise InputError(
                f"{folder} lacks {', '.join(absent)} of {len(files)} files that {INDEX} names; "
                "download it again."
            )
    elif (folder / WEIGHTS).is_file():
        files = [WEIGHTS]
    else:
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        if pickled:
            raise InputError(
                f"{folder} holds weights as a pickle only ({', '.join(pickled)}), which is never "
                f"read here; convert it with: {_CONVERTER} {folder}"
            )
        raise InputError(f"{folder} has no {WEIGHTS}; download it again.")
    state: dict[str, np.ndarray] = {}
    for name in files:
        state.update(read_safetensors(folder / name))
    return state


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file, in float32; InputError for one that is missing or damaged."""
    if not path.is_file():
        raise InputError(f"there is no file {path}; give one of safetensors.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {key: _wide(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        with path.open("rb") as raw:
            start = raw.read(32)
        if start.startswith((b"PK", b"\x80")):
            raise InputError(
                f"{path} is a pickle under the name of a safetensors file, which is never read "
                f"here; rename it to pytorch_model.bin and convert it with: {_CONVERTER} "
                f"{path.parent}"
            ) from error
        if start.startswith(b"version https://git-lfs"):
            raise InputError(
                f"{path} is a pointer of Git LFS, not the weights; fetch them with git lfs pull."
            ) from error
        raise InputError(
            f"{path} is damaged or was not downloaded completely ({error}); download it again."
        ) from error


def _wide(array: np.ndarray) -> np.ndarray:
    # NumPy's own float16, and bfloat16, which is a foreign type to it.
    return array if array.dtype.kind in "iub" else array.astype(np.float32)


def _canonical(
    state: Mapping[str, np.ndarray], base: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Keys as the class with a classification head has them, and those that are there twice."""
    bare = not any(key.startswith(f"{base}.") for key in state)
    named: dict[str, np.ndarray] = {}
    faults = []
    for key, array in state.items():
        name = key
        for old, new in _OLD_SPELLINGS.items():
            name = name.removesuffix(old) + new if name.endswith(old) else name
        if bare and not name.startswith((*_OTHER_HEADS, *_OWN_HEAD)):
            name = f"{base}.{name}"
        if name in named:
            faults.append(f"{key} is there twice, in two spellings")
        named[name] = array
    return named, faults


# --- STAA-Net's generator ------------------------------------------------------------------


def read_generator(path: Path | str, module: WaveUNet) -> dict[str, Any]:
    """Variables of ``module`` from a state dict of the authors' generator (safetensors).

    Raises:
      InputError: the file is missing or damaged, or does not fit; all keys that do not are named.
      UsageError: ``module`` is conditioned.
    """
    table, shapes = _generator_table(module), generator_shapes(module)
    state = read_safetensors(Path(path))
    variables = params.from_torch(state, table, shapes=shapes, ignored=(), where=str(path))
    return jax.tree.map(jnp.asarray, variables)


def generator_shapes(module: WaveUNet) -> Any:
    """Shapes of the variables of an unconditioned generator."""
    x = jax.ShapeDtypeStruct((1, module.num_samples), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), x)


def write_generator(path: Path | str, module: WaveUNet, variables: Mapping[str, Any]) -> None:
    """Write ``variables`` with the keys of the authors' state dict, as safetensors.

    Raises:
      UsageError: ``module`` is conditioned.
    """
    state = params.to_torch({"params": variables["params"]}, _generator_table(module))
    with atomic_file(path) as temporary:
        safetensors.numpy.save_file(state, temporary, metadata={"format": "pt"})


def _generator_table(module: WaveUNet) -> tuple[params.Entry, ...]:
    if module.num_classes is not None or module.condition_epsilon:
        raise UsageError(
            "the authors' generator knows neither target classes nor ε, so a conditioned one has "
            "no such weights; build it without num_classes and condition_epsilon."
        )
    return params.wave_unet_table(len(module.widths))


# --- writing -------------------------------------------------------------------------------


def write_pretrained(
    module: SpeechTransformer, variables: Mapping[str, Any], labels: Sequence[str], out: Path | str
) -> None:
    """Write ``module`` for transformers' ``*ForSequenceClassification``.

    Args:
      module: any of the three families. With ``normalise_last_state`` and a weighted sum of the
        layers, transformers 4 gives its logits, and transformers 5 others.
      variables: its variables.
      labels: class names in index order.
      out: folder that does not exist or is empty.

    Raises:
      UsageError: ``out`` holds something, or the number of labels is not that of the classes.
    """
    out, config = Path(out), module.config
    if len(labels) != module.num_classes:
        raise UsageError(f"{len(labels)} labels for a model of {module.num_classes} classes.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not an empty folder; give another, or remove it.")
    family = _FAMILIES[config.model_type]
    state = params.to_torch(params.unstack_layers(variables), family.table(config))
    if config.conv_pos_batch_norm:
        counter = f"{config.model_type}.encoder.pos_conv_embed.batch_norm.num_batches_tracked"
        state[counter] = np.zeros((), np.int64)
    with atomic_file(out / WEIGHTS) as temporary:
        # Without this mark transformers takes the file for another framework's.
        safetensors.numpy.save_file(state, temporary, metadata={"format": "pt"})
    fields = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.name not in _OF_HUBERT or config.model_type == "hubert"
    }
    preprocessor = {name: fields.pop(name) for name in _OF_PREPROCESSOR}
    preprocessor |= {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
    }
    fields |= {
        "architectures": [f"{family.torch_class}ForSequenceClassification"],
        "model_type": config.model_type,
        "num_feat_extract_layers": len(config.conv_dim),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "torch_dtype": "float32",
    }
    for name, entries in ((PREPROCESSOR, preprocessor), (CONFIG, fields)):
        write_text(out / name, json.dumps(entries, indent=2, sort_keys=True) + "\n")


# --- the hub -------------------------------------------------------------------------------


def fetch_from_hub(name: str) -> Path:
    """Folder with the model ``name`` ("superb/hubert-base-superb-er") of the Hugging Face hub.

    It is kept in huggingface_hub's cache and fetched once.

    Raises:
      InputError: there is no such model, or no network.
    """
    import huggingface_hub

    wanted = [CONFIG, PREPROCESSOR, "*.safetensors", INDEX]
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # of three libraries, without a common base
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else ""
        raise InputError(
            f"{name} is no folder here and could not be fetched from the Hugging Face hub "
            f"({reason or type(error).__name__}); give a folder, or check the name and the network."
        ) from error
