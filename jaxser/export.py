"""Write a victim for PyTorch: ``python -m jaxser.export FOLDER OUT``.

FOLDER is a run of python -m jaxser.train with a wav2vec 2.0, HuBERT or WavLM victim, or such a
model as Hugging Face keeps it. OUT is then a folder for transformers:

    model = transformers.AutoModelForAudioClassification.from_pretrained("OUT")

Of a run with an image network, OUT is a folder for transformers (ViT, CvT, LeViT) or has
torchvision's keys (AlexNet, VGG16); the layer from ImageNet's logits to the emotions is beside
them.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from jaxser.config.parser import CommandParser, command_name
from jaxser.runtime.errors import UsageError, report_errors

__all__ = ["export", "main"]


def export(folder: Path | str, out: Path | str) -> None:
    """Write the network in ``folder`` to ``out``, as transformers or torchvision saves it.

    Raises:
      InputError: ``folder`` holds no finished victim.
      UsageError: its victim is another architecture; ``out`` is not empty.
    """
    from jaxser.models.speech_transformer import SpeechTransformer
    from jaxser.victims.hugging_face.layout import is_pretrained_folder
    from jaxser.victims.hugging_face.reading import read_pretrained
    from jaxser.victims.hugging_face.writing import write_pretrained
    from jaxser.victims.image_checkpoints.writing import is_image_network, write_image_checkpoint
    from jaxser.victims.run_folder import load_module

    folder = Path(folder)
    if is_pretrained_folder(folder) and not (folder / "config.yaml").is_file():
        found = read_pretrained(folder)
        write_pretrained(found.module, found.variables, found.labels, out)
        return
    module, variables, config, facts = load_module(folder)
    network = getattr(module, "network", module)
    if is_image_network(network):
        if network is not module:
            # A network without statistics of its own has none beside those of the front end.
            variables = {k: tree["network"] for k, tree in variables.items() if "network" in tree}
        write_image_checkpoint(network, variables, facts["labels"], out)
        return
    if not isinstance(module, SpeechTransformer):
        raise UsageError(
            f"{config.model.name} in {folder} is no architecture of transformers; wav2vec2, "
            "hubert, wavlm, vit, cvt, levit, alexnet and vgg16 victims can be exported."
        )
    write_pretrained(module, variables, facts["labels"], out)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, export, print; returns the exit status."""
    parser = CommandParser(
        prog=command_name("export"),
        description="Write a wav2vec 2.0, HuBERT or WavLM victim or an image network for PyTorch.",
    )
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a run folder, or a folder of Hugging Face"
    )
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="folder to write; must not exist or be empty"
    )
    arguments = parser.parse_args(argv)
    export(arguments.folder, arguments.out)
    print(f"{arguments.out} is ready for PyTorch.")
    return 0


if __name__ == "__main__":
    sys.exit(report_errors(main))
