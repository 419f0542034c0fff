"""What Python says of the test's picture: its faces, and crops' pixels as JSON.

python expected.py PICTURE_FOLDER
"""

import json
import pathlib
import sys

import numpy as np
import skimage
from PIL import Image

from emosynth_jax import predict
from emosynth_jax.data import _image_files, _images


def main() -> None:
  """Copies the picture to the folder and prints what the page has to find."""
  folder = pathlib.Path(sys.argv[1])
  # NASA's portrait of Eileen Collins, in the public domain, ships with scikit-image.
  astronaut = np.asarray(
    Image.open(pathlib.Path(skimage.__file__).parent / "data" / "astronaut.png")
  )
  # Turned and beside each other: two faces, one of them small.
  small = _image_files.resize(astronaut[:300, 80:380], 150)
  pair = np.full((512, 700, 3), 90, np.uint8)
  pair[:, :512] = astronaut
  pair[20:170, 530:680] = small
  pictures = {
    "one": astronaut,
    "two": pair,
    "large": np.repeat(np.repeat(astronaut, 3, axis=0), 3, axis=1)[:1400, 100:1433],
  }
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, (61, 47, 3), np.uint8)
  predictor = predict.Predictor()
  answers = {}
  for name, picture in pictures.items():
    Image.fromarray(picture).save(folder / f"{name}.png")
    answers[name] = [p._asdict() for p in predictor(picture)]
  crop = np.ascontiguousarray(astronaut[70:180, 170:280])
  Image.fromarray(crop).save(folder / "face.png")
  whole = predict.Predictor(faces="none")
  answers["face"] = [p._asdict() for p in whole(crop)]
  sizes = {}
  for shape in ((61, 47), (48, 48), (60, 30), (20, 33), (96, 96)):
    grey = _images.convert(_image_files.resize(noise, 61), 1)
    part = np.ascontiguousarray(np.resize(grey, (*shape, 1)))
    resized = _image_files.resize(part, 48)
    sizes["x".join(map(str, shape))] = {
      "from": part.ravel().tolist(),
      "to": resized.ravel().tolist(),
    }
  grey = {
    "rgb": noise.ravel().tolist(),
    "grey": _images.convert(noise, 1).ravel().tolist(),
  }
  print(json.dumps({"answers": answers, "sizes": sizes, "grey": grey}))


if __name__ == "__main__":
  main()
