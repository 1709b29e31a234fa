"""Devices that are not at hand: XLA's compilers for an H200 and for a v5e-8 need none.

    device = DEVICES["h200"]
    with device.forms():
        compiled = device.compile(jax.jit(function).lower(*shapes_on(device.mesh())))

Nothing can run there, and nothing is tuned by trying: it shows launches, bytes and memory, no time.
The compilers come with ``pip install 'jaxser[aot]'``.
"""

import contextlib
import dataclasses
import importlib.util
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxser.runtime.errors import UsageError
from jaxser.runtime.forms import Platform, forms_for
from jaxser.runtime.text import one_line

__all__ = ["DEVICES", "Device", "cudnn_assumed"]

# What XLA asks a device for.
_H200 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000
  l2_cache_size: 62914560
  clock_rate_ghz: 1.98
  device_memory_size: 150000000000
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
runtime_version: { major: 13 minor: 0 patch: 0 }
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 13 }
device_description_str: "NVIDIA H200"
"""


@dataclasses.dataclass(frozen=True)
class Device:
    """A device, or several of one kind, that programs are compiled for.

    Attributes:
      platform: whose forms are compiled.
      package: what its compiler is in.
      topology: how JAX is told what there is.
      options: of the compiler.
      fallback: of it where it fails with these.
    """

    platform: Platform
    package: str
    topology: Mapping[str, Any]
    options: Mapping[str, Any]
    fallback: Mapping[str, Any]

    def mesh(self) -> Any:
        """All its devices, with the axis "data".

        Raises:
          UsageError: its compiler is not installed, or does not start.
        """
        import jax
        from jax.experimental import topologies

        from jaxser.runtime.sharding import make_mesh

        if not self.is_installed():
            raise UsageError(
                f"the compiler for a {self.platform.upper()} is not installed ({self.package}); "
                "pip install 'jaxser[aot]'."
            )
        # A plugin that is to run programs refuses to start without its device's libraries.
        jax.config.update("jax_platforms", "cpu")
        # It would look for the metadata server of a machine in a cloud.
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
        try:
            found = topologies.get_topology_desc(**self.topology)
        except Exception as error:  # whatever a plugin makes of another version of JAX
            raise UsageError(
                f"the compiler for a {self.platform.upper()} does not start "
                f"({one_line(str(error).rstrip('.'))}); install the one of this JAX: "
                "pip install 'jaxser[aot]'."
            ) from error
        return make_mesh(list(np.ravel(found.devices)))

    def is_installed(self) -> bool:
        """Whether its compiler is there."""
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.util.find_spec(self.package) is not None
        return False

    def forms(self) -> contextlib.AbstractContextManager[None]:
        """The forms of its platform, while a program is traced."""
        return forms_for(self.platform)

    def compile(self, lowered: Any) -> Any:
        """A program compiled for it, from ``jax.jit(...).lower(...)``."""
        import jax

        with _without_cache():
            try:
                return lowered.compile(compiler_options=dict(self.options))
            except jax.errors.JaxRuntimeError:
                if not self.fallback:
                    raise
                return lowered.compile(compiler_options={**self.options, **self.fallback})


DEVICES: Mapping[str, Device] = {
    "h200": Device(
        "gpu",
        "jax_plugins.xla_cuda13",
        {
            "platform": "cuda",
            "topology_name": "h200",
            "target_config": _H200,
            "topology": "1x1x1",
        },
        # Tuning tries kernels out.
        {"xla_gpu_autotune_level": 0},
        # Of some products in half precision Triton finds no tiles without trying.
        {"xla_gpu_enable_triton_gemm": False},
    ),
    "v5e-8": Device("tpu", "libtpu", {"topology_name": "v5e:2x4", "platform": "tpu"}, {}, {}),
}


@contextlib.contextmanager
def _without_cache() -> Iterator[None]:
    """What was compiled for a device that is not there can be kept on disk, but not read again."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    folder = jax.config.values["jax_compilation_cache_dir"]
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", folder)
        compilation_cache.reset_cache()


@contextlib.contextmanager
def cudnn_assumed() -> Iterator[None]:
    """JAX looks for a GPU and its cuDNN while attention by cuDNN is traced; here it finds both."""
    from jax._src.cudnn import fused_attention_stablehlo as attention

    names = ("check_cudnn_version", "check_compute_capability")
    before = {name: getattr(attention, name) for name in names}
    try:
        attention.check_cudnn_version = lambda: 91300
        attention.check_compute_capability = lambda _: True
        yield
    finally:
        for name, function in before.items():
            setattr(attention, name, function)
