"""What is told of the corpora: a table of all, and everything about one.

print(corpora_table())
print(description("iemocap"))
"""

from jaxser import corpora

__all__ = ["corpora_table", "description"]


def corpora_table() -> str:
    """A line for each corpus: title, language, numbers of classes, utterances and speakers."""
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
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


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
