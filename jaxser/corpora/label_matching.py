"""Which class of a victim each label of a corpus is: by name, or as somebody says.

matching = match_labels(("ang", "hap"), ("anger", "happiness", "boredom"), ("hap=happiness",))
matching.classes                       # {"anger": 0, "happiness": 1}
matching.strange                       # ("boredom",): no class of the victim
matching.told()                        # "ang=anger hap=happiness"
"""

import dataclasses
from collections.abc import Mapping, Sequence

from jaxser.runtime.errors import UsageError, nearest_name

__all__ = ["LabelMatching", "match_labels"]

# Letters in which two names must begin alike where one is the other's abbreviation.
_LEAST = 3


@dataclasses.dataclass(frozen=True)
class LabelMatching:
    """The classes of a corpus' labels.

    Attributes:
      known: the victim's labels, in index order.
      classes: label of the corpus -> class index of the victim, of those that are one.
      strange: labels of the corpus that the victim does not know.
    """

    known: tuple[str, ...]
    classes: Mapping[str, int]
    strange: tuple[str, ...]

    def told(self) -> str:
        """Labels that are called otherwise, as ``--labels`` has them; "" where all are the same."""
        return " ".join(
            f"{self.known[index]}={label}"
            for label, index in self.classes.items()
            if self.known[index] != label
        )


def match_labels(
    known: Sequence[str], labels: Sequence[str], pairs: Sequence[str] = ()
) -> LabelMatching:
    """Find the class of every label.

    A label is the class of the same name, whatever its case; else the only one that it begins with
    or that begins with it, by three letters at least ("ang" and "anger"), where no other label of
    the corpus is that class.

    Args:
      known: the victim's labels, in index order.
      labels: of the corpus.
      pairs: ``VICTIM=CORPUS``, such as "ang=anger", which come first; several labels of the corpus
        may be one class.

    Raises:
      UsageError: a pair that is none, or names a label that the victim or the corpus has not.
    """
    classes: dict[str, int] = {}
    for pair in pairs:
        own, equals, label = (part.strip() for part in pair.partition("="))
        if not equals:
            raise UsageError(
                f"--labels {pair!r} is not of the form VICTIM=CORPUS, as ang=anger is."
            )
        for name, of, whose in ((own, known, "victim"), (label, labels, "corpus")):
            if name not in of:
                hint = nearest_name(name, of)
                raise UsageError(f"--labels {pair}: the {whose} has no label {name!r}; {hint}")
        if classes.setdefault(label, known.index(own)) != known.index(own):
            raise UsageError(f"--labels gives {label} to two classes of the victim; give one.")
    for label in labels:
        same = [i for i, name in enumerate(known) if name.casefold() == label.casefold()]
        if label not in classes and same:
            classes[label] = known.index(label) if label in known else same[0]
    taken = set(classes.values())
    guesses = {
        label: [i for i, name in enumerate(known) if i not in taken and _abbreviates(name, label)]
        for label in labels
        if label not in classes
    }
    for label, found in guesses.items():
        rivals = [other for other, theirs in guesses.items() if set(found) & set(theirs)]
        if len(found) == 1 and rivals == [label]:
            classes[label] = found[0]
    return LabelMatching(
        known=tuple(known),
        classes={label: classes[label] for label in labels if label in classes},
        strange=tuple(label for label in labels if label not in classes),
    )


def _abbreviates(one: str, other: str) -> bool:
    short, long = sorted((one.casefold(), other.casefold()), key=len)
    return len(short) >= _LEAST and long.startswith(short)
