"""Speech transformers in folders as Hugging Face keeps them: read, written, fetched.

    found = read_pretrained("PATH/TO/wav2vec2-base-superb-er")
    logits = found.module.apply(found.variables, x)
    write_pretrained(found.module, found.variables, found.labels, "OUT")

Read are ``config.json``, ``model.safetensors`` (also in shards) and ``preprocessor_config.json``;
PyTorch is not needed, and nothing is unpickled. A checkpoint without a classification head gets a
new one. What is written, transformers' PyTorch classes load without a missing or unexpected key.
"""
