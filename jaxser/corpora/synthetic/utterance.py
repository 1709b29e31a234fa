"""One utterance: sentence, manner, source and filter together, and the microphone.

samples = synthesize(seed=0, speaker=speaker, label="anger", take=0, seconds=1.25)
"""

import math

import numpy as np
from jaxtyping import Int16

from jaxser.corpora.synthetic.emotions import LABELS
from jaxser.corpora.synthetic.filters import (
    FRAME,
    SAMPLE_RATE,
    Track,
    Waveform,
    filtered,
    smooth,
    unit_delay,
)
from jaxser.corpora.synthetic.randomness import generator_of
from jaxser.corpora.synthetic.sentences import make_sentence, time_phones
from jaxser.corpora.synthetic.speakers import Speaker, draw_manner
from jaxser.corpora.synthetic.vocal_tract import articulate, formant_filter, frication
from jaxser.corpora.synthetic.voice_source import phonate, pitch_track

__all__ = ["synthesize"]


def synthesize(
    seed: int, speaker: Speaker, label: str, take: int, seconds: float
) -> Int16[np.ndarray, " samples"]:
    """One utterance as 16-bit samples."""
    samples = round(seconds * SAMPLE_RATE)
    frames = -(-samples // FRAME)
    rng = generator_of(seed, 2, speaker.number, LABELS.index(label), take)
    # The sentence has a key without speaker and label: what is said tells no emotion.
    sentence = make_sentence(generator_of(seed, 3, take), math.ceil(12 * seconds))
    manner = draw_manner(rng, speaker, label)
    phones = time_phones(rng, sentence, speaker, manner, seconds)
    syllable, voicing, formants = articulate(phones, speaker, frames)

    def per_sample(track: Track) -> Waveform:
        return np.interp(np.arange(frames * FRAME) / FRAME, np.arange(frames), track)

    stress = np.array([s.stressed - 0.5 for s in sentence])[syllable]
    rise = manner.energy_slope * np.linspace(-0.5, 0.5, frames)
    loudness = 10 ** (smooth(manner.accent * stress + rise, 5) / 20)
    f0 = pitch_track(rng, sentence, syllable, speaker, manner)
    larynx = phonate(rng, per_sample(f0), manner, speaker)
    larynx *= per_sample(smooth(voicing, 3) * loudness)
    voice = formant_filter(larynx, formants, speaker.formant_scale)
    voice /= np.sqrt(np.mean(voice[np.repeat(voicing == 1, FRAME)] ** 2))
    noise = frication(rng, phones, len(voice)) * per_sample(loudness)
    return _record(rng, (voice + noise)[:samples], speaker)


def _record(
    rng: np.random.Generator, speech: Waveform, speaker: Speaker
) -> Int16[np.ndarray, " samples"]:
    """What the microphone gives: no rumble, background noise, a level, 16 bits, no clipping."""
    frequency = np.fft.rfftfreq(len(speech), 1 / SAMPLE_RATE)
    speech = filtered(speech, frequency**2 / (frequency**2 + 60.0**2))
    background = rng.standard_normal(len(speech))
    background = filtered(background, 1 / (1 - 0.9 * unit_delay(len(speech))))
    background *= np.std(speech) / np.std(background) * 10 ** (-speaker.snr / 20)
    recorded = speech + background
    peak = 10 ** ((speaker.gain + rng.uniform(-2, 2)) / 20)
    return np.rint(recorded / np.abs(recorded).max() * peak * 32767).astype(np.int16)
