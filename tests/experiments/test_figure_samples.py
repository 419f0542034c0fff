"""Figure 3.4: sample images, one column per class."""

import types

import numpy as np
import pytest
from PIL import Image

from emosynth_jax.data.dataset import Dataset
from experiments.lib import figures_of_samples


def test_samples_stand_in_the_column_of_their_class():
  labels = np.array([1, 0, 1, 1, 0, 2], np.int32)
  images = np.full((6, 3, 4, 1), 0, np.uint8) + (10 * labels)[:, None, None, None]
  dataset = Dataset(
    images.astype(np.uint8), labels, ("a", "b", "c"), "train", tuple("123456")
  )
  chosen = figures_of_samples.choose_samples(dataset, 2, seed=0)
  for column in range(3):
    kept = chosen[chosen[:, column] >= 0, column]
    assert len(set(kept)) == len(kept) == (2, 2, 1)[column]
    assert (labels[kept] == column).all()
  strip = figures_of_samples.join_images(dataset, chosen)
  assert strip.shape == (8, 16, 1)
  assert (strip[:3, 6:10] == 10).all()
  assert (strip[5:, 12:] == 255).all()  # Class c has one image alone.


def test_what_is_not_there_is_named_and_left_out(tmp_path):
  for name in ("a", "b"):
    for split in ("train", "test"):
      (tmp_path / split / name).mkdir(parents=True)
      pixels = np.full((8, 8), 7, np.uint8)
      Image.fromarray(pixels).save(tmp_path / split / name / "1.png")
  given = types.SimpleNamespace(
    data=["mnist", f"image_folder:{tmp_path}:image_size=8,channels=1"],
    data_dir=str(tmp_path / "nowhere"),
    rows=1,
  )
  figures_of_samples.make_figure(given, tmp_path / "figure_3_4.png")
  with Image.open(tmp_path / "figure_3_4.png") as image:
    assert image.width > 300
  text = (tmp_path / "figure_3_4.txt").read_text()
  assert "mnist: not drawn" in text
  assert "image_folder: train, 2 images; 1 of each class" in text

  given.data = ["mnist"]
  with pytest.raises(FileNotFoundError, match="no data set 'mnist'"):
    figures_of_samples.make_figure(given, tmp_path / "figure_3_4.png")
