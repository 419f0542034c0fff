# NVIDIA GPU image. JAX's wheels bring CUDA; the host needs a driver and the container
# toolkit. Not tested: no container engine was available.
#
#   docker build --file containers/cuda.Dockerfile --tag emosynth_jax:cuda .
#   docker run --rm --gpus=all --volume "$PWD/data:/emosynth_jax/data:ro" \
#       --volume "$PWD/runs:/emosynth_jax/runs" emosynth_jax:cuda \
#       python -m emosynth_jax.main --config=configs/fer2013.py
FROM python:3.12-slim

# For provenance: .git is copied too.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /emosynth_jax
COPY . .
# Without constraints.txt, whose JAX is the one that was tested on CPUs.
RUN pip install --no-cache-dir --editable . 'jax[cuda13]'

CMD ["python", "-m", "emosynth_jax.main", "--config=configs/synthetic_faces.py:small"]
