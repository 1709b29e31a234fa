"""How programs are compiled beside peers, and on how many threads those run."""

import jax
import pytest

# Networks beside their twins: what LLVM optimises rounds otherwise, far below the tolerances.
TWINS = {
    "test_cnn_lstm_twin",
    "test_cvt_levit_peers",
    "test_foundation_peers",
    "test_image_twins",
    "test_torch_twins",
    "test_wave_unet_twin",
}


# Of what runs long, LLVM's optimisations win back what they take.
FULL_SIZE = {"test_base_size", "test_full_size", "test_published_size_and_keys"}
FULL_SIZE |= {"test_same_logits_in_full_size", "test_sides_of_the_benchmark_do_the_same"}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small victims, and other tests beside them: more threads of PyTorch wait for each other."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def compiled_as_fits(request: pytest.FixtureRequest) -> None:
    """Small networks as in the other suites, in half of the time; the rest as users get it."""
    module, name = request.module.__name__, request.function.__name__
    quickly = module in TWINS and name not in FULL_SIZE
    if jax.config.read("jax_disable_most_optimizations") != quickly:
        jax.config.update("jax_disable_most_optimizations", quickly)
        jax.clear_caches()
