"""What is told of the corpora: a table of all, and everything about one.

print(corpora_table())
print(description("iemocap"))
"""

from jaxser import corpora
from jaxser.results.fitted import folded

__all__ = ["corpora_table", "description"]


def corpora_table(width: int | None = None) -> str:
    """A line for each corpus: title, language, numbers of classes, utterances and speakers.

    Args:
      width: of the terminal that the table is to fit.
    """
    rows = [("NAME", "TITLE", "LANGUAGE", "CLASSES", "UTTERANCES", "SPEAKERS", "LICENCE")]
    for name in corpora.names():
        spec = corpora.get_spec(name)
        count = sum(spec.official_counts.get(label, 0) for label in spec.labels)
        rows.append(
            (
                name,
                spec.title,
                spec.language,
                str(len(spec.labels) or "any"),
                f"{count:,}" if count else "any",
                str(spec.official_speakers or "any"),
                spec.licence,
            )
        )
    return folded(rows, width, left=len(rows[0]))


def description(name: str) -> str:
    """Classes, layout, standard split, licence, where to get it, and its quirks.

    Raises:
      UsageError: there is no corpus of this name.
    """
    spec = corpora.get_spec(name)
    split = spec.standard_split
    facts = {
        "corpus": f"{name}: {spec.title} ({spec.language})",
        "classes": ", ".join(
            f"{label} {spec.official_counts[label]:,}" if label in spec.official_counts else label
            for label in spec.labels
        ),
        "left out": ", ".join(spec.other_labels),
        "layout": spec.layout,
        "sample rate": f"{spec.sample_rate:,} Hz" if spec.sample_rate else "",
        "standard split": split
        if isinstance(split, str)
        else f"train {' '.join(split.train)}; val {' '.join(split.val) or 'none'}; "
        f"test {' '.join(split.test)}",
        "licence": spec.licence,
        "obtain": spec.obtain,
        "pages": " ".join(spec.urls),
    }
    lines = [f"{key + ':':16}{value}" for key, value in facts.items() if value]
    return "\n".join([*lines, *(f"- {quirk}" for quirk in spec.quirks)])
