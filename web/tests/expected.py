"""Python's predictions for the tests' images, and crops' pixels, as JSON.

python expected.py IMAGE_FOLDER page|camera
"""

import json
import pathlib
import sys
from typing import Any

import numpy as np
import skimage
from PIL import Image

from emosynth_jax import predict
from emosynth_jax.data.images import decoding
from emosynth_jax.data.images import files as image_files

_CAMERA_SIZE = (480, 640)


def astronaut() -> np.ndarray:
  """NASA's portrait of Eileen Collins, in the public domain: uint8 `(512, 512, 3)`."""
  # It ships with scikit-image.
  folder = pathlib.Path(skimage.__file__).parent / "data"
  return np.asarray(Image.open(folder / "astronaut.png"))


def save_images(folder: pathlib.Path, portrait: np.ndarray) -> list[str]:
  """Writes PNG files of one face, of two, and an enlarged one; their names."""
  # Turned and beside each other: two faces, one of them small.
  small = image_files.resize(portrait[:300, 80:380], 150)
  pair = np.full((512, 700, 3), 90, np.uint8)
  pair[:, :512] = portrait
  pair[20:170, 530:680] = small
  large = np.repeat(np.repeat(portrait, 3, axis=0), 3, axis=1)[:1400, 100:1433]
  images = {"one.png": portrait, "two.png": pair, "large.png": large}
  for name, image in images.items():
    Image.fromarray(image).save(folder / name)
  return list(images)


def save_formats(folder: pathlib.Path, portrait: np.ndarray) -> list[str]:
  """Writes the portrait in the formats that decoders are apt to differ in; names."""
  image = Image.fromarray(portrait)
  exif = Image.Exif()
  exif[0x0112] = 6  # A phone held upright: to be turned clockwise by a quarter.
  image.rotate(90).save(folder / "turned.jpg", exif=exif, quality=90)
  image.convert("L").save(folder / "gray.png")
  image.quantize(64).save(folder / "palette.png")
  image.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
  # Transparent towards the left, with noise in what can't be seen; half of the face.
  alpha = np.clip(np.arange(512) - 100, 0, 255).astype(np.uint8)
  hidden = np.random.default_rng(1).integers(0, 256, portrait.shape, np.uint8)
  color = np.where(alpha[:, None] > 0, portrait, hidden)
  rgba = np.dstack([color, np.broadcast_to(alpha, portrait.shape[:2])])
  Image.fromarray(rgba).save(folder / "alpha.png")
  reduced = image.quantize(64)
  holed = np.where(np.arange(512) < 60, 63, np.asarray(reduced)).astype(np.uint8)
  holes = Image.fromarray(holed, "P")
  holes.putpalette(reduced.getpalette() or [])
  holes.save(folder / "holes.png", transparency=63)
  return ["turned.jpg", "gray.png", "palette.png", "cmyk.jpg", "alpha.png", "holes.png"]


def save_camera(folder: pathlib.Path, portrait: np.ndarray) -> str:
  """Writes the portrait as what a camera sees, and as its stream; the image's name.

  The stream is Y4M with color at half the resolution, as ITU-R 601 defines it.
  """
  height, width = _CAMERA_SIZE
  image = np.full((height, width, 3), 90, np.uint8)
  image[:, :512] = portrait[:height]
  Image.fromarray(image).save(folder / "camera.png")
  red, green, blue = (image[..., i].astype(float) for i in range(3))
  luma = 0.299 * red + 0.587 * green + 0.114 * blue
  planes = [16 + luma * 219 / 255]
  for color, most in ((blue, 1.772), (red, 1.402)):
    plane = 128 + (color - luma) / most * 224 / 255
    planes.append(plane.reshape(height // 2, 2, width // 2, 2).mean((1, 3)))
  frame = b"FRAME\n" + b"".join(
    np.clip(np.rint(plane), 0, 255).astype(np.uint8).tobytes() for plane in planes
  )
  header = f"YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C420\n".encode()
  (folder / "camera.y4m").write_bytes(header + 2 * frame)
  return "camera.png"


def prepared_pixels() -> dict[str, Any]:
  """Pixels before and after Python's resizing and its gray."""
  noise = np.random.default_rng(0).integers(0, 256, (61, 47, 3), np.uint8)
  gray = decoding.convert(image_files.resize(noise, 61), 1)
  sizes = {}
  for shape in ((61, 47), (48, 48), (60, 30), (20, 33), (96, 96)):
    part = np.ascontiguousarray(np.resize(gray, (*shape, 1)))
    resized = image_files.resize(part, 48)
    sizes["x".join(map(str, shape))] = {
      "from": part.ravel().tolist(),
      "to": resized.ravel().tolist(),
    }
  return {
    "sizes": sizes,
    "gray": {
      "rgb": noise.ravel().tolist(),
      "gray": decoding.convert(noise, 1).ravel().tolist(),
    },
  }


def main() -> None:
  """Writes the images to the folder and prints what the page has to find."""
  folder, part = pathlib.Path(sys.argv[1]), sys.argv[2]
  portrait = astronaut()
  found: dict[str, Any] = {}
  if part == "camera":
    names = [save_camera(folder, portrait)]
  else:
    names = save_images(folder, portrait) + save_formats(folder, portrait)
    found = prepared_pixels()
  predictor = predict.Predictor(upright=False)
  answers = {name: predictor(folder / name) for name in names}
  if part == "page":
    crop = np.ascontiguousarray(portrait[70:180, 170:280])
    # The same face with a quarter of its contrast, which a network that equalizes its
    # input takes for nearly the same image.
    for name, image in (("face.png", crop), ("dim.png", crop // 4 + 90)):
      Image.fromarray(image).save(folder / name)
      answers[name] = predict.Predictor(faces="none")(folder / name)
    # More pixels than the page keeps: it shrinks it, Python does not.
    huge = Image.fromarray(portrait).resize((4608, 4608), Image.Resampling.BICUBIC)
    huge.save(folder / "huge.jpg", quality=90)
    answers["huge.jpg"] = predictor(folder / "huge.jpg")
    other = predict.Predictor("fer2013", upright=False)(folder / "two.png")
    found["fer2013"] = [face._asdict() for face in other]
  found["answers"] = {
    name: [face._asdict() for face in faces] for name, faces in answers.items()
  }
  print(json.dumps(found))


if __name__ == "__main__":
  main()
