"""All that a config file and the command line can say, as frozen dataclasses.

    config = parse_command(TrainConfig, "python -m jaxser.train", "Train a victim.", argv)
    config.training.learning_rate

Precedence: the defaults below, then the YAML file, then ``--any.field value`` flags. Values are
checked by pydantic against the annotations; unknown keys are refused with the nearest valid name.
"""

import argparse
import dataclasses
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from jaxser.errors import UsageError, nearest_name

__all__ = [
    "AttackCommandConfig",
    "AttackedCorpusConfig",
    "CorpusConfig",
    "FeaturesConfig",
    "ModelConfig",
    "TrainConfig",
    "TrainingConfig",
    "from_mapping",
    "load_yaml",
    "parse_command",
    "to_mapping",
]

ConfigType = TypeVar("ConfigType")

Positive = Field(gt=0)
NotNegative = Field(ge=0)


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """Which speech, which split, and how it is made one length and one rate."""

    name: Annotated[str, Field(description="corpus name: see python -m jaxser.corpora list")] = (
        "synthetic"
    )
    root: Annotated[
        Path | None, Field(description="folder of the corpus; synthetic is made where absent")
    ] = None
    split: Annotated[
        str,
        Field(
            description="standard, speaker, given, kfold, loso, csv, iemocap_sessions, "
            "demos_40_30_30, random_64_16_20 or random_80_20"
        ),
    ] = "standard"
    split_seed: Annotated[int, NotNegative, Field(description="seed of a drawn split")] = 0
    fold: Annotated[int, NotNegative, Field(description="fold number of kfold and loso")] = 0
    folds: Annotated[int, Field(ge=2, description="number of folds of kfold")] = 5
    split_file: Annotated[Path | None, Field(description="CSV of id,split for the split csv")] = (
        None
    )
    labels: Annotated[
        tuple[str, ...], Field(description="classes to keep, in this order; all by default")
    ] = ()
    protocol: Annotated[
        Literal["clean", "paper"],
        Field(
            description="paper: augmented speech in every part, statistics fitted on all parts, "
            "and random_64_16_20 for the splits standard and speaker, as published"
        ),
    ] = "clean"
    chunks: Annotated[
        bool,
        Field(
            description="trim silence and cut every utterance into chunks of this many seconds, "
            "each repeated to full length, instead of one waveform per utterance"
        ),
    ] = False
    augment: Annotated[
        bool,
        Field(description="with chunks: add four changes of pitch and four of speed"),
    ] = False
    sample_rate: Annotated[int, Positive, Field(description="Hz, after resampling")] = 16_000
    seconds: Annotated[
        float, Positive, Field(description="length of every utterance: repeated, then cut")
    ] = 1.25
    channel: Annotated[Literal["left", "mean"], Field(description="how stereo becomes mono")] = (
        "left"
    )
    skip_damaged: Annotated[
        bool, Field(description="leave damaged files out and record them, instead of stopping")
    ] = False
    cache_dir: Annotated[
        Path | None, Field(description="prepared audio goes here ($JAXSER_CACHE, ~/.cache/jaxser)")
    ] = None

    @property
    def num_samples(self) -> int:
        """Samples per utterance after resampling and unifying."""
        return round(self.seconds * self.sample_rate)


@dataclasses.dataclass(frozen=True)
class FeaturesConfig:
    """The spectrogram that a victim reads, if it reads one; the settings are librosa's."""

    kind: Annotated[
        Literal["waveform", "linear", "mel", "log_mel", "mfcc", "cqt"],
        Field(description="waveform: the victim has no front end"),
    ] = "waveform"
    n_fft: Annotated[int, Positive, Field(description="frame length in samples")] = 512
    hop_length: Annotated[int, Positive, Field(description="samples from frame to frame")] = 128
    window: Annotated[
        Literal["hann", "hamming", "blackman", "ones"], Field(description="of a frame")
    ] = "hann"
    power: Annotated[Literal[1, 2], Field(description="2: power, 1: amplitude")] = 2
    n_mels: Annotated[int, Positive, Field(description="mel bands")] = 128
    fmin: Annotated[float, NotNegative, Field(description="lowest frequency in Hz")] = 0.0
    fmax: Annotated[
        float | None, Positive, Field(description="highest mel frequency in Hz; half the rate")
    ] = None
    n_mfcc: Annotated[int, Positive, Field(description="coefficients of mfcc")] = 20
    n_bins: Annotated[int, Positive, Field(description="bins of cqt")] = 84
    bins_per_octave: Annotated[int, Positive, Field(description="of cqt")] = 12
    squared: Annotated[
        bool | None,
        Field(description="dB of the squared values; by default where they are amplitudes"),
    ] = None
    top_db: Annotated[
        float | None, NotNegative, Field(description="dynamic range of an utterance in dB")
    ] = 80.0
    normalisation: Annotated[
        Literal["original", "sum", "max_global", "max_local"],
        Field(description="what a spectrogram is divided by: its sum, the largest of all, its own"),
    ] = "original"
    standardise: Annotated[
        bool, Field(description="mean 0 and deviation 1 of every cell over the training part")
    ] = True
    bounds: Annotated[
        tuple[float, ...],
        Field(description="least and largest valid feature, for attacks on features"),
    ] = ()


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Which victim."""

    name: Annotated[
        str,
        Field(
            description="emo18, zhao19, wav2vec2-base, hubert-base, wavlm-base and larger ones; on "
            "spectrograms: cnn_lstm, cnn_lstm_m0, _m1, _m2"
        ),
    ] = "emo18"
    dropout: Annotated[
        float | None, Field(ge=0, lt=1, description="where the model has it; its own by default")
    ] = None
    lstm_dropout: Annotated[
        float | None, Field(ge=0, lt=1, description="of cnn_lstm's LSTM; its own by default")
    ] = None
    dtype: Annotated[
        Literal["float32", "bfloat16"],
        Field(description="precision inside the victim or generator"),
    ] = "float32"
    checkpoint: Annotated[
        Path | None,
        Field(
            description="folder of Hugging Face (config.json, model.safetensors) with the wav2vec "
            "2.0, HuBERT or WavLM to fine-tune, of any size"
        ),
    ] = None
    freeze_feature_encoder: Annotated[
        bool, Field(description="do not train the convolutions of a speech transformer")
    ] = True
    attention: Annotated[
        Literal["xla", "cudnn"], Field(description="kernel of a speech transformer's attention")
    ] = "xla"
    scan_layers: Annotated[
        bool, Field(description="one compiled loop over a speech transformer's blocks")
    ] = False
    remat: Annotated[
        bool, Field(description="recompute its blocks for their gradients, to save memory")
    ] = False


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Adam on cross-entropy, and when to stop and save."""

    epochs: Annotated[int, Positive, Field(description="passes over the training part")] = 10
    batch_size: Annotated[int, Positive, Field(description="over all devices")] = 16
    accumulate: Annotated[
        int, Positive, Field(description="batches whose mean gradient makes one update")
    ] = 1
    learning_rate: Annotated[float, Positive, Field(description="peak of the schedule")] = 1e-3
    schedule: Annotated[
        Literal["constant", "cosine", "step", "plateau"],
        Field(
            description="of the learning rate; step multiplies by decay every decay_epochs, "
            "plateau after decay_epochs without a lower validation loss"
        ),
    ] = "cosine"
    warmup_steps: Annotated[int, NotNegative, Field(description="linear warm-up from 0")] = 0
    decay: Annotated[
        float, Field(gt=0, le=1, description="factor of the step and plateau schedules")
    ] = 0.5
    decay_epochs: Annotated[
        int, Positive, Field(description="of the step and plateau schedules")
    ] = 5
    layer_decay: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="factor of the learning rate from a transformer's block to the one below",
        ),
    ] = 1.0
    weight_decay: Annotated[
        float, NotNegative, Field(description="L2 penalty in the gradient, as torch's Adam has it")
    ] = 0.0
    class_weights: Annotated[
        bool, Field(description="weigh the loss by inverse class frequency")
    ] = False
    mixup: Annotated[
        float,
        NotNegative,
        Field(description="alpha of mixup: pairs of loudness-normalised utterances; 0: none"),
    ] = 0.0
    random_shift: Annotated[
        bool, Field(description="rotate every training utterance in time by a random amount")
    ] = False
    monitor: Annotated[
        Literal["uar", "loss", "asr", "last"],
        Field(
            description="validation figure that picks the best epoch: uar of a victim, asr (attack "
            "success rate) of a generator, the loss of both; last: none does"
        ),
    ] = "uar"
    patience: Annotated[
        int, NotNegative, Field(description="epochs without a better one before stopping; 0: never")
    ] = 0
    checkpoint_minutes: Annotated[
        float, Positive, Field(description="also save within an epoch this often")
    ] = 5.0


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """STAA-Net: a network that makes adversarial speech, and what it is trained for."""

    widths: Annotated[
        tuple[int, ...],
        Field(min_length=1, description="channels of the Wave-U-Net's levels, multiples of 8"),
    ] = (32, 64, 128, 256, 512, 1024)
    padding: Annotated[
        Literal["valid", "same"],
        Field(description="valid: reflected input, as published; same: no sample is wasted"),
    ] = "valid"
    epsilon: Annotated[
        tuple[float, ...],
        Field(
            min_length=1,
            max_length=2,
            description="largest amplitude of a change; a lowest and a highest one train for all "
            "between, with epsilon as an input",
        ),
    ] = (0.05,)
    target: Annotated[
        str | None,
        Field(description="label to reach instead of leaving the prediction; all: any, as asked"),
    ] = None
    magnitudes: Annotated[
        Literal["tanh", "clip"],
        Field(description="limit of the changes, as in the authors' code or as in their paper"),
    ] = "tanh"
    quantisation: Annotated[
        Literal["random", "straight_through"], Field(description="of the mask in training")
    ] = "random"
    factorised: Annotated[
        bool, Field(description="locations beside magnitudes; without, all samples change")
    ] = True
    confidence: Annotated[
        float, NotNegative, Field(description="margin of the logits beyond which more is no better")
    ] = 0.0
    reduction: Annotated[
        Literal["row", "batch"],
        Field(
            description="norms of each row and means over the rows; or of the whole batch and sums,"
            " as published, which change with the batch size"
        ),
    ] = "row"
    magnitude_weight: Annotated[float, NotNegative, Field(description="of the L2 norm")] = 1e-3
    sparsity_weight: Annotated[float, NotNegative, Field(description="of the mask's L1 norm")] = (
        1e-4
    )
    quantisation_weight: Annotated[
        float, NotNegative, Field(description="of the distance to a mask of zeros and ones")
    ] = 1e-4
    keep_sparsity: Annotated[
        float | None,
        Field(
            gt=0,
            lt=1,
            description="share of changed samples to arrive at, for each target apart; "
            "replaces sparsity_weight",
        ),
    ] = None
    anneal_epochs: Annotated[
        int,
        NotNegative,
        Field(description="over which the share of changed samples falls from 1 to keep_sparsity"),
    ] = 0
    keep_snr: Annotated[
        float | None,
        Field(description="least power SNR in dB, on average; replaces magnitude_weight"),
    ] = None
    multiplier_rate: Annotated[
        float, Positive, Field(description="step of the multipliers that keep_... adapts")
    ] = 0.05
    start: Annotated[
        Path | None, Field(description="run folder of a trained generator to go on from")
    ] = None


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run; the defaults are the demo."""

    out: Annotated[Path, Field(description="run folder; an unfinished run there is resumed")] = (
        Path("runs/demo")
    )
    seed: Annotated[int, NotNegative, Field(description="of initialisation and data order")] = 0
    threat: Annotated[
        tuple[Path, ...],
        Field(
            description="run folders of victims to train a generator of adversarial speech against,"
            " instead of a victim"
        ),
    ] = ()
    corpus: CorpusConfig = dataclasses.field(default_factory=CorpusConfig)
    features: FeaturesConfig = dataclasses.field(default_factory=FeaturesConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    generator: GeneratorConfig = dataclasses.field(default_factory=GeneratorConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)


@dataclasses.dataclass(frozen=True)
class AttackedCorpusConfig:
    """Where the attacked speech lies; whatever is not said is as in the victim's own run."""

    name: Annotated[str | None, Field(description="another corpus than the victim's own")] = None
    root: Annotated[Path | None, Field(description="folder of the corpus")] = None
    split: Annotated[
        str | None, Field(description="split scheme, as in python -m jaxser.train")
    ] = None
    split_file: Annotated[Path | None, Field(description="CSV of id,split for the split csv")] = (
        None
    )
    skip_damaged: Annotated[
        bool, Field(description="leave damaged files out instead of stopping")
    ] = False
    cache_dir: Annotated[
        Path | None, Field(description="prepared audio goes here ($JAXSER_CACHE, ~/.cache/jaxser)")
    ] = None


@dataclasses.dataclass(frozen=True)
class AttackCommandConfig:
    """One attack on one victim at one or several ε."""

    victim: Annotated[Path, Field(description="run folder of python -m jaxser.train")] = Path(
        "runs/demo"
    )
    attack: Annotated[
        str,
        Field(
            description="its name, such as fgsm or pgd (README.md has the table of all), or a YAML "
            "file of name, paper and parameters"
        ),
    ] = "pgd"
    epsilon: Annotated[
        tuple[float, ...],
        Field(
            description="budgets; without: 0.005 0.01, or inf (no limit) where the attack looks "
            "for the smallest perturbation"
        ),
    ] = ()
    epsilon_unit: Annotated[
        Literal["amplitude", "snr_peak", "snr_power"],
        Field(description="the attack's norm, or the least SNR of each utterance in dB"),
    ] = "amplitude"
    params: Annotated[
        tuple[str, ...],
        Field(description="the attack's hyper-parameters, such as steps=40 norm=l2"),
    ] = ()
    domain: Annotated[
        Literal["waveform", "features"],
        Field(
            description="what the attack changes: the waveform, through the front end, or the "
            "standardised spectrogram of a victim that reads one"
        ),
    ] = "waveform"
    split: Annotated[
        Literal["train", "val", "test"], Field(description="part of the corpus to attack")
    ] = "test"
    limit: Annotated[
        int | None, Positive, Field(description="attack this many utterances, spread over the part")
    ] = None
    y: Annotated[
        Literal["truth", "prediction"], Field(description="label that the attack wants to leave")
    ] = "truth"
    target: Annotated[
        str | None, Field(description="label to reach instead; utterances of it are left out")
    ] = None
    seed: Annotated[int, NotNegative, Field(description="of random starts")] = 0
    batch_size: Annotated[
        int | None, Positive, Field(description="rows per batch over all devices")
    ] = None
    by: Annotated[
        Literal["class", "gender", "speaker", "language", "corpus"] | None,
        Field(description="also print the table split by this"),
    ] = None
    interval_over: Annotated[
        Literal["utterance", "speaker"], Field(description="what the bootstrap draws")
    ] = "utterance"
    save_wav: Annotated[
        bool,
        Field(
            description="write the adversarial speech as float32 WAV files; of attacked features "
            "librosa's inverse, to listen to"
        ),
    ] = False
    show: Annotated[
        tuple[str, ...],
        Field(
            description="ids of utterances to look at and to listen to: their speech, the "
            "adversarial speech and the difference as WAV files and in a picture"
        ),
    ] = ()
    stoi: Annotated[
        bool, Field(description="measure intelligibility too, on the host, 10 ms for every second")
    ] = False
    out: Annotated[
        Path | None, Field(description="folder of the rows (VICTIM/attacks/ATTACK-HASH)")
    ] = None
    corpus: AttackedCorpusConfig = dataclasses.field(default_factory=AttackedCorpusConfig)


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help.")


def parse_command(
    config_class: type[ConfigType], prog: str, description: str, argv: Sequence[str] | None = None
) -> ConfigType:
    """Read ``[CONFIG.yaml] [--any.field value ...]`` into a ``config_class``.

    Args:
      config_class: frozen dataclass, nested ones allowed, all fields with defaults.
      prog: command as a user types it.
      description: first line of ``--help``.
      argv: arguments; ``sys.argv[1:]`` by default.

    Returns:
      The validated config.

    Raises:
      UsageError: unknown key or flag, wrong type, unreadable file.
    """
    parser = _Parser(
        prog=prog,
        usage="%(prog)s [CONFIG.yaml] [--any.field VALUE ...]",
        description=description,
        allow_abbrev=False,
    )
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG.yaml")
    fields = dict(_leaves(config_class))
    for name, field in fields.items():
        _add_flag(parser, name, field)
    given, unknown = parser.parse_known_args(_underscored(sys.argv[1:] if argv is None else argv))
    for flag in unknown:
        if flag.startswith("-"):
            key = flag.lstrip("-").partition("=")[0]
            raise UsageError(f"unknown flag --{key}: {nearest_name(key, fields)}")
        raise UsageError(f"unexpected argument {flag!r}; see {prog} --help.")
    values = load_yaml(given.config) if given.config else {}
    _check_keys(config_class, values, str(given.config))
    for name in fields:
        text = getattr(given, name)
        if text is not None:
            _set(values, name, text)
    where = f"{given.config} or the command line" if given.config else "the command line"
    return from_mapping(config_class, values, where)


def as_params(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Hyper-parameters of a mapping as ``AttackCommandConfig.params`` has them."""

    def text(value: Any) -> str:
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    return tuple(f"{name}={text(value)}" for name, value in values.items())


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds ({} for an empty one)."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"there is no config file {path}; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a config: {error}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not YAML"
        raise UsageError(f"{path}{where} is not valid YAML: {problem}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(
            f"{path} must hold 'key: value' lines, but holds a {type(values).__name__}."
        )
    return values


def from_mapping(
    config_class: type[ConfigType], values: Mapping[str, Any], where: str
) -> ConfigType:
    """Validate a nested mapping into a ``config_class``; ``where`` names it in errors."""
    _check_keys(config_class, values, where)
    try:
        config: ConfigType = TypeAdapter(config_class).validate_python(dict(values))
        return config
    except ValidationError as error:
        first = error.errors()[0]
        # pydantic adds the tried branch of a union to the path: keep the config's own keys.
        location = ".".join(str(part) for part in first["loc"] if _is_key(part))
        given = first["input"]
        reason = first["msg"][0].lower() + first["msg"][1:]
        raise UsageError(f"{location} = {given!r} in {where} is not valid: {reason}.") from None


def to_mapping(config: Any) -> dict[str, Any]:
    """The config as plain values, ready for YAML or JSON (the inverse of from_mapping)."""
    mapping: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    return mapping


def _is_key(part: int | str) -> bool:
    return isinstance(part, int) or part.isidentifier()


def _hints(config_class: type) -> dict[str, Any]:
    return typing.get_type_hints(config_class, include_extras=True)


def _leaves(config_class: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, (annotation, default)) of every field that is not itself a config."""
    defaults = config_class()
    for name, hint in _hints(config_class).items():
        if dataclasses.is_dataclass(hint):
            yield from _leaves(typing.cast(type, hint), f"{prefix}{name}.")
        else:
            yield prefix + name, (hint, getattr(defaults, name))


def _add_flag(parser: argparse.ArgumentParser, name: str, field: tuple[Any, Any]) -> None:
    hint, default = field
    inner, *marks = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
    text = next((m.description for m in marks if getattr(m, "description", None)), "")
    kind: dict[str, Any] = {"nargs": None}
    metavar = _metavar(inner)
    if typing.get_origin(inner) is tuple:
        kind = {"nargs": "+"}
    elif inner is bool:
        kind = {"nargs": "?", "const": True}
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    help_text = f"{text} (default: {shown})".replace("%", "%%")
    parser.add_argument(f"--{name}", metavar=metavar, help=help_text, **kind)


def _underscored(argv: Sequence[str]) -> list[str]:
    """Flags as the fields are spelled: people type --training.batch-size as well."""
    spelled = []
    for argument in argv:
        flag, equals, value = argument.partition("=")
        if flag.startswith("--"):
            argument = "--" + flag[2:].replace("-", "_") + equals + value
        spelled.append(argument)
    return spelled


def _metavar(inner: Any) -> str:
    if typing.get_origin(inner) is Annotated:
        return _metavar(typing.get_args(inner)[0])
    if typing.get_origin(inner) is Literal:
        return "{" + ",".join(map(str, typing.get_args(inner))) + "}"
    if typing.get_origin(inner) in (types.UnionType, typing.Union):
        return _metavar(next(a for a in typing.get_args(inner) if a is not types.NoneType))
    if typing.get_origin(inner) is tuple:
        return _metavar(typing.get_args(inner)[0])
    return str(getattr(inner, "__name__", "value")).upper()


def _check_keys(
    config_class: type, values: Mapping[str, Any], where: str, prefix: str = ""
) -> None:
    hints = _hints(config_class)
    for key, value in values.items():
        if key not in hints:
            hint = nearest_name(str(key), hints)
            raise UsageError(f"unknown key {f'{prefix}{key}'!r} in {where}: {hint}")
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            _check_keys(typing.cast(type, hints[key]), value, where, f"{prefix}{key}.")


def _set(values: dict[str, Any], name: str, text: Any) -> None:
    """Put a flag's text under its dotted name; "none" means no value."""
    *parents, leaf = name.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise UsageError(f"{parent} in the config file must hold 'key: value' lines.")
    values[leaf] = None if isinstance(text, str) and text.lower() in ("none", "null") else text
