"""Reference losses of adversarial training in torch, by their authors' definitions.

    python -m scripts.golden_robust_losses           # tests/golden/robust_losses.npz

TRADES (Zhang et al. 2019) and MART (Wang et al. 2020) are written here from the authors' programs,
with torch's own divergence and cross-entropy: sums over a batch, divided by its size.
"""

from pathlib import Path

import numpy as np

OUT = Path("tests/golden/robust_losses.npz")
BETA = 6.0


# MART's authors add 1e-12 to probabilities, which shows where a victim is surer than that.
SURE = {"trades": 6.0, "mart": 1.5}


def logits(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of clean and of attacked inputs, and labels: sure ones, even ones and mistaken ones."""
    rng = np.random.default_rng(0)
    clean = rng.normal(0, 2, (24, 7)).astype(np.float32)
    attacked = (clean + rng.normal(0, 1.5, clean.shape)).astype(np.float32)
    clean[:4] *= SURE[name]
    attacked[2:6] *= SURE[name]
    return clean, attacked, rng.integers(0, 7, 24).astype(np.int32)


def reference(name: str) -> dict[str, np.ndarray]:
    """The loss of the batch, and its gradients by both logits."""
    import torch
    from torch.nn.functional import cross_entropy, kl_div, log_softmax, nll_loss, softmax

    clean, attacked, labels = logits(name)
    natural = torch.from_numpy(clean).requires_grad_()
    adversarial = torch.from_numpy(attacked).requires_grad_()
    y = torch.from_numpy(labels).long()
    size = len(y)
    if name == "trades":
        far = kl_div(log_softmax(adversarial, 1), softmax(natural, 1), reduction="sum")
        loss = cross_entropy(natural, y) + BETA * far / size
    else:
        p = softmax(adversarial, 1)
        order = torch.argsort(p, dim=1)
        rival = torch.where(order[:, -1] == y, order[:, -2], order[:, -1])
        boosted = cross_entropy(adversarial, y) + nll_loss(torch.log(1.0001 - p + 1e-12), rival)
        q = softmax(natural, 1)
        right = q.gather(1, y[:, None])[:, 0]
        far = kl_div(torch.log(p + 1e-12), q, reduction="none").sum(1)
        loss = boosted + BETA * (far * (1.0000001 - right)).sum() / size
    loss.backward()
    return {
        f"{name}_loss": loss.detach().numpy(),
        f"{name}_clean_gradient": natural.grad.numpy(),
        f"{name}_attacked_gradient": adversarial.grad.numpy(),
    }


def golden() -> dict[str, np.ndarray]:
    """Both losses on the logits."""
    return {**reference("trades"), **reference("mart")}


if __name__ == "__main__":
    np.savez_compressed(OUT, **golden())  # type: ignore[arg-type]
