"""Which pictures of a victim are drawn: those asked for, or all that it can give.

pictures = checked_pictures(config, victim, Path("runs/emo18_emodb"), utterances=40)
left_out(config, victim, utterances=4)      # ["tsne is left out: a perplexity of 30 needs ..."]
"""

from pathlib import Path
from typing import get_args

from jaxser.config.explain import OF_SPEECH, ExplainConfig, Picture
from jaxser.driver.attributions import Method, check_methods, has_feature_map
from jaxser.experiments.last_layer import check_perplexity, check_tsne, lacks_for_tsne
from jaxser.runtime.errors import UsageError
from jaxser.victims.victim import Victim

__all__ = ["checked_pictures", "left_out"]


def checked_pictures(
    config: ExplainConfig, victim: Victim, folder: Path, utterances: int
) -> list[Picture]:
    """The pictures to draw; nothing is computed for it.

    Args:
      config: what was asked for.
      victim: loaded.
      folder: of its run.
      utterances: that are looked at.

    Raises:
      UsageError: one was asked for that this victim, this machine or so few utterances cannot give.
    """
    if config.show:
        pictures = list(dict.fromkeys(config.show))
    else:
        can = {
            "tsne": not lacks_for_tsne(victim, config.perplexity, utterances),
            "gradcam": has_feature_map(victim),
        }
        pictures = [each for each in get_args(Picture) if can.get(each, each not in OF_SPEECH)]
    if "tsne" in pictures:
        if victim.embed is None:
            raise UsageError(
                f"{victim.name} in {folder} does not tell what its last layer reads; leave tsne "
                "out of --show."
            )
        check_tsne()
        check_perplexity(config.perplexity, utterances)
    methods = [each for each in pictures if each in get_args(Method)]
    # Agreement is that of gradients, at least.
    check_methods(victim, ["saliency", *methods] if "agreement" in pictures else methods)
    return pictures


def left_out(config: ExplainConfig, victim: Victim, utterances: int) -> list[str]:
    """What would be drawn without ``--show`` and is not, and why.

    Args:
      config: what was asked for.
      victim: loaded.
      utterances: that are looked at.
    """
    lacking = "" if config.show else lacks_for_tsne(victim, config.perplexity, utterances)
    return [f"tsne is left out: {lacking}"] if lacking else []
