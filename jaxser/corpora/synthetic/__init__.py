"""Speech-like sound made from code alone, for demos and tests where no real speech is at hand.

    from jaxser.corpora import synthetic
    utterances = synthetic.read(Path("data/synthetic"))       # made on first use
    synthetic.generate(Path("data/other"), seed=1, speakers=12, seconds=2.0)

A glottal pulse train and noise excite a row of formant resonators (source-filter synthesis after
Klatt, "Software for a cascade/parallel formant synthesizer", JASA 67, 1980, and Klatt & Klatt,
JASA 87, 1990: glottal pulse, tilt and aspiration). Sentences are nonsense syllables, the same
for every speaker and emotion, so that an emotion is carried by prosody and voice quality alone:
pitch level, range and slope, tempo, pauses, accents, energy slope, spectral tilt, breathiness,
jitter, shimmer, creak and tremor. Directions follow the usual summaries of acted speech (Scherer,
"Vocal communication of emotion", Speech Communication 40, 2003); sizes were chosen so that
classes overlap. What a victim scores on it says nothing about human emotion.

By what a reader looks for: ``emotions`` (prosody), ``speakers``, ``sentences``, ``voice_source``,
``vocal_tract``, ``utterance`` (all of it together, and the microphone), ``folder`` (the corpus on
disk).
"""

from jaxser.corpora.synthetic.emotions import EMOTIONS, LABELS, Prosody
from jaxser.corpora.synthetic.filters import SAMPLE_RATE
from jaxser.corpora.synthetic.folder import SPEC, generate, read
from jaxser.corpora.synthetic.randomness import VERSION

__all__ = ["EMOTIONS", "LABELS", "SAMPLE_RATE", "SPEC", "VERSION", "Prosody", "generate", "read"]
