// Faces in an image, as emosynth_jax/data/images/face_detector.py finds them, with the
// same detector.
import { enlarge, roundHalfEven, shrink } from "./pixels.js";

const STRIDE = 4; // Pixels of the image that one pixel of the maps stands for.
const MULTIPLE = 64; // Of the sides that the detector is given.
const MAX_OVERLAP = 0.3;
const MAX_SIDE = 640;
const MAX_SCALE = 2;
const MIN_SCORE = 0.5;

/** What the detector takes: float32 (1, 3, h, w), BGR, black beside the image. */
export function prepare(image) {
  const { width, height } = image;
  const scale = Math.min(MAX_SCALE, MAX_SIDE / Math.max(width, height));
  const newWidth = Math.max(1, roundHalfEven(scale * width));
  const newHeight = Math.max(1, roundHalfEven(scale * height));
  const resize = scale < 1 ? shrink : enlarge;
  const { data } = resize(image, newWidth, newHeight);
  const columns = Math.ceil(newWidth / MULTIPLE) * MULTIPLE;
  const rows = Math.ceil(newHeight / MULTIPLE) * MULTIPLE;
  const input = new Float32Array(3 * rows * columns);
  for (let c = 0; c < 3; c += 1) {
    for (let y = 0; y < newHeight; y += 1) {
      const to = (c * rows + y) * columns;
      for (let x = 0; x < newWidth; x += 1) {
        input[to + x] = data[(y * newWidth + x) * 3 + 2 - c];
      }
    }
  }
  return {
    input,
    dims: [1, 3, rows, columns],
    scales: [newWidth / width, newHeight / height],
  };
}

function overlap(a, b) {
  const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  if (width <= 0 || height <= 0) return 0;
  const area = (box) => (box.right - box.left) * (box.bottom - box.top);
  return (width * height) / (area(a) + area(b) - width * height);
}

/** The detector's maps as faces in pixels of the image, by descending score. */
export function decode({ centers, sizes, offsets, rows, columns }, scales, image) {
  const plane = rows * columns;
  const boxes = [];
  for (let i = 0; i < plane; i += 1) {
    if (!(centers[i] > MIN_SCORE)) continue;
    const x = (i % columns) + offsets[plane + i] + 0.5;
    const y = Math.floor(i / columns) + offsets[i] + 0.5;
    const width = Math.exp(sizes[plane + i]);
    const height = Math.exp(sizes[i]);
    boxes.push({
      left: STRIDE * (x - width / 2),
      top: STRIDE * (y - height / 2),
      right: STRIDE * (x + width / 2),
      bottom: STRIDE * (y + height / 2),
      score: centers[i],
    });
  }
  boxes.sort((a, b) => b.score - a.score);
  const kept = [];
  for (const box of boxes) {
    if (kept.every((other) => overlap(box, other) <= MAX_OVERLAP)) kept.push(box);
  }
  const within = (x, size) => Math.min(Math.max(x, 0), size);
  return kept
    .map((box) => ({
      left: within(box.left / scales[0], image.width),
      top: within(box.top / scales[1], image.height),
      right: within(box.right / scales[0], image.width),
      bottom: within(box.bottom / scales[1], image.height),
      score: box.score,
    }))
    .filter((box) => box.left < box.right && box.top < box.bottom);
}

/** The square around a face, framed as FER-2013's images are. */
export function squareOf(face) {
  const side = Math.max(face.right - face.left, face.bottom - face.top) / 0.88;
  const x = (face.left + face.right) / 2;
  const y = (face.top + face.bottom) / 2 - 0.02 * side;
  return { left: x - side / 2, top: y - side / 2, side };
}
