"""Parts of the speech transformers (wav2vec 2.0, HuBERT, WavLM), in the order in which they run."""
