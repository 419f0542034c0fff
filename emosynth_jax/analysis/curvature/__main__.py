"""The curvature of the loss at a trained network, and over the plane of its landscape.

  python -m emosynth_jax.analysis.curvature --workdir=runs/ce
  python -m emosynth_jax.analysis.curvature --workdir=runs/ce --grid=21 --images=64

With --grid=1 the Hessian's extreme eigenvalues, trace and spectral density at the
network itself: curvature.npz, .json and .png. With a larger grid the ratio
|smallest / largest| over the same plane as loss_landscape's: curvature_map.npz, .json
and .png. --compare adds a plot of several runs. Results that a workdir already has are
not recomputed, and results of other settings are kept (result_cache.py).
"""

from emosynth_jax.analysis import cli
from emosynth_jax.analysis.curvature import command

if __name__ == "__main__":
  cli.run(command.define_flags, command.draw_all)
