"""Several JAX devices on one CPU, which train faster than one device on all cores."""

import os

import jax
from absl import logging

# Images of a device's part of a batch below which its passes are too short to gain.
_LEAST_IMAGES = 16


def count_for(batch_size: int, cores: int) -> int:
  """Chooses the number of devices among which a CPU's cores are divided.

  Args:
    batch_size: images of a batch.
    cores: the process's.

  Returns:
    The largest number up to `cores` that divides the batch evenly and leaves each
    device 16 images or more; at least 1.
  """
  most = max(1, min(cores, batch_size // _LEAST_IMAGES))
  return max(n for n in range(1, most + 1) if batch_size % n == 0)


def chosen_by_user() -> bool:
  """Returns whether the environment sets the number of CPU devices."""
  return (
    "JAX_NUM_CPU_DEVICES" in os.environ
    or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
  )


def split_cores(batch_size: int | None = None) -> None:
  """Makes several devices of the CPU, for a training each with a part of a batch.

  A device runs most operations inside of loops on one core, and a training is a loop:
  FerVGG at half of its width trained 1.5 times as fast on two devices as on one of two
  threads (docs/notes/performance_diary.md). The computation is that of any run on
  several devices: sums go over the whole batch, in another order.

  Without effect where the user has set the number of CPU devices, by
  `JAX_NUM_CPU_DEVICES` or in `XLA_FLAGS`, in a job of several processes, and once JAX
  has computed anything; a warning says so if there are fewer devices. Other platforms
  don't change.

  Args:
    batch_size: images of a batch; None for one device for each core, where devices
      compute independently.
  """
  if chosen_by_user() or jax.distributed.is_initialized():
    return

  cores = cpu_cores()
  count = cores if batch_size is None else count_for(batch_size, cores)
  try:
    jax.config.update("jax_num_cpu_devices", count)
  except RuntimeError:  # JAX has computed something: its devices are there.
    _warn_of_fewer_devices(count)


def _warn_of_fewer_devices(count: int) -> None:
  devices = jax.local_devices()
  if devices[0].platform == "cpu" and len(devices) < count:
    logging.log_first_n(
      logging.WARNING,
      "This process used JAX before, on CPU devices: %d. A training is faster on %d; "
      "start the process with JAX_NUM_CPU_DEVICES=%d.",
      1,
      len(devices),
      count,
      count,
    )


def cpu_cores() -> int:
  """The number of CPU cores that this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
