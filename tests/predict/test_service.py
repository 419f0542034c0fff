"""The web service of docs/guides/predict.md, with eight clients at once and its
limits."""

import asyncio
import io
import pathlib
import re
import threading

import numpy as np
import pytest
import tiny_predictor
from PIL import Image

from emosynth_jax import predict
from emosynth_jax.predict import predictor as predictor_module

pytest.importorskip("fastapi", reason="fastapi of the extra test is not installed")
httpx = pytest.importorskip("httpx", reason="httpx of the extra test is not installed")

_PAGE = pathlib.Path(__file__).parents[2] / "docs" / "guides" / "predict.md"


@pytest.fixture
def service(network, fake_detector, monkeypatch):
  """The names of the page's program, run with the tiny network."""
  monkeypatch.setattr(
    predictor_module.bundle, "read_network", lambda *rest, **options: network
  )
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
  (program,) = re.findall(r"```python\n([^`]*FastAPI\(\)[^`]*)```", _PAGE.read_text())
  assert sum(map(bool, program.splitlines())) <= 30
  names = {"__name__": "service"}
  exec(compile(program, str(_PAGE), "exec"), names)
  yield names
  names["threads"].shutdown()


def _post(service, bodies):
  """The responses to requests that are made at once."""

  async def post_all():
    transport = httpx.ASGITransport(app=service["app"])
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
      jobs = [client.post("/predict", content=body) for body in bodies]
      return await asyncio.gather(*jobs)

  return asyncio.run(post_all())


def _png(image):
  file = io.BytesIO()
  Image.fromarray(image).save(file, "PNG")
  return file.getvalue()


def test_eight_clients_at_once_get_their_own_answers(service):
  images = [tiny_predictor.image(i % 4, seed=i) for i in range(8)]
  alone = predict.Predictor(batch_size=1)
  for response, image in zip(_post(service, map(_png, images)), images, strict=True):
    assert response.status_code == 200
    expected = alone(image)
    assert len(response.json()) == image[0, 0, 0]
    for found, prediction in zip(response.json(), expected, strict=True):
      assert found["label"] == prediction.label
      assert found["probabilities"] == pytest.approx(prediction.probabilities)
      assert found["box"] == list(prediction.box)


def test_what_is_too_large_or_no_image(service, monkeypatch):
  large, text, empty = _post(service, [bytes(service["MAX_BYTES"] + 1), b"text", b""])
  assert large.status_code == 413
  assert (text.status_code, empty.status_code) == (422, 422)
  assert "no known image format" in text.json()["detail"]
  assert "the file is empty" in empty.json()["detail"]
  # An image of few bytes and many pixels.
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
  (bomb,) = _post(service, [_png(np.zeros((50, 50), np.uint8))])
  assert bomb.status_code == 422
  assert "exceeds limit" in bomb.json()["detail"]


def test_what_takes_too_long_or_is_too_much(service):
  release = threading.Event()
  service["predictor"] = lambda content: release.wait(60) and []
  service["MAX_SECONDS"] = 0.05
  service["slots"] = threading.BoundedSemaphore(2)
  codes = sorted(response.status_code for response in _post(service, [b"a"] * 3))
  assert codes == [503, 504, 504]
  release.set()
  service["threads"].submit(int).result()
