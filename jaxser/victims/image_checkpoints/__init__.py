"""Networks of images in folders: read from transformers, timm and torchvision, and written back.

    found = read_image_checkpoint("PATH/TO/cvt-21", num_classes=7)
    logits = found.module.apply(found.variables, x, train=False)     # x [batch, 224, 224, 3]
    write_image_checkpoint(found.module, found.variables, labels, "OUT")

Read are ``config.json`` and ``model.safetensors`` (also in shards); PyTorch is not needed, and
nothing is unpickled. The linear layer from ImageNet's 1000 logits to the emotions is this
project's: it is new, unless this project wrote the folder.
"""
