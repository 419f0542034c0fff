// Images as the Python package prepares them, pixel by pixel: Pillow's gray and
// OpenCV's resizing. An image is { data, width, height, channels }, rows first.

/** Python's round(): halves go to the even neighbor. */
export function roundHalfEven(x) {
  const down = Math.floor(x);
  const rest = x - down;
  if (rest !== 0.5) return Math.round(x);
  return down % 2 === 0 ? down : down + 1;
}

/** RGB of a canvas's ImageData. */
export function fromImageData({ data, width, height }) {
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0, j = 0; j < rgb.length; i += 4, j += 3) {
    rgb[j] = data[i];
    rgb[j + 1] = data[i + 1];
    rgb[j + 2] = data[i + 2];
  }
  return { data: rgb, width, height, channels: 3 };
}

/** ITU-R 601 luma, with Pillow's rounding. */
export function toGray({ data, width, height }) {
  const gray = new Uint8Array(width * height);
  for (let i = 0, j = 0; i < gray.length; i += 1, j += 3) {
    gray[i] = (data[j] * 19595 + data[j + 1] * 38470 + data[j + 2] * 7471 + 32768) >> 16;
  }
  return { data: gray, width, height, channels: 1 };
}

/** The square from (left, top), at least a pixel; outside of the image its border is repeated. */
export function cutSquare(image, { left, top, side }) {
  const { data, width, height, channels } = image;
  const [x0, y0, rounded] = [left, top, side].map(roundHalfEven);
  const size = Math.max(1, rounded);
  const result = new Uint8Array(size * size * channels);
  let to = 0;
  for (let y = y0; y < y0 + size; y += 1) {
    const row = Math.min(Math.max(y, 0), height - 1) * width;
    for (let x = x0; x < x0 + size; x += 1) {
      const from = (row + Math.min(Math.max(x, 0), width - 1)) * channels;
      for (let c = 0; c < channels; c += 1) result[to++] = data[from + c];
    }
  }
  return { data: result, width: size, height: size, channels };
}

/** What of which pixels each pixel of a shorter row is made: OpenCV's INTER_AREA. */
function areaWeights(from, to) {
  const scale = from / to;
  return Array.from({ length: to }, (_, i) => {
    const start = i * scale;
    const end = start + scale;
    const length = Math.min(scale, from - start);
    const last = Math.min(Math.floor(end), from - 1);
    const first = Math.min(Math.ceil(start), last);
    const parts = [];
    if (first - start > 1e-3) parts.push([first - 1, (first - start) / length]);
    for (let j = first; j < last; j += 1) parts.push([j, 1 / length]);
    if (end - last > 1e-3) parts.push([last, Math.min(end - last, 1, length) / length]);
    return parts;
  });
}

/** A longer row's pixels between two of the shorter one, in OpenCV's 2048ths. */
function linearParts(from, to) {
  const scale = from / to;
  return Array.from({ length: to }, (_, i) => {
    const at = Math.fround((i + 0.5) * scale - 0.5);
    const low = Math.floor(at);
    if (low < 0) return { low: 0, high: 0, weights: [2048, 0] };
    if (low >= from - 1) return { low: from - 1, high: from - 1, weights: [2048, 0] };
    const rest = Math.fround(at - low);
    const weights = [1 - rest, rest].map((x) => roundHalfEven(Math.fround(x) * 2048));
    return { low, high: low + 1, weights };
  });
}

function resample({ data, width, height, channels }, columns, rows) {
  const newWidth = columns.length;
  const across = new Float64Array(height * newWidth * channels);
  for (let y = 0, to = 0; y < height; y += 1) {
    for (const parts of columns) {
      for (let c = 0; c < channels; c += 1, to += 1) {
        for (const [x, weight] of parts) {
          across[to] += weight * data[(y * width + x) * channels + c];
        }
      }
    }
  }
  const row = newWidth * channels;
  const result = new Uint8Array(rows.length * row);
  const sums = new Float64Array(row);
  rows.forEach((parts, i) => {
    sums.fill(0);
    for (const [y, weight] of parts) {
      for (let k = 0; k < row; k += 1) sums[k] += weight * across[y * row + k];
    }
    // Sums of floats miss a half by their last digits.
    for (let k = 0; k < row; k += 1) {
      result[i * row + k] = roundHalfEven(Math.round(sums[k] * 1e6) / 1e6);
    }
  });
  return { data: result, width: newWidth, height: rows.length, channels };
}

/** Halves both sides; a sum of four rounds up at a half. */
function halve({ data, width, height, channels }) {
  const [w, h] = [width / 2, height / 2];
  const result = new Uint8Array(w * h * channels);
  const row = width * channels;
  for (let y = 0, to = 0; y < h; y += 1) {
    for (let x = 0; x < w; x += 1) {
      for (let c = 0; c < channels; c += 1, to += 1) {
        const at = 2 * y * row + 2 * x * channels + c;
        const below = at + row;
        const sum = data[at] + data[at + channels] + data[below] + data[below + channels];
        result[to] = (sum + 2) >> 2;
      }
    }
  }
  return { data: result, width: w, height: h, channels };
}

/** Shrinks by averages over areas. */
export function shrink(image, width, height) {
  if (width === image.width && height === image.height) return image;
  if (2 * width === image.width && 2 * height === image.height) return halve(image);
  return resample(
    image,
    areaWeights(image.width, width),
    areaWeights(image.height, height),
  );
}

/** Enlarges by bilinear interpolation, in OpenCV's fixed-point numbers. */
export function enlarge(image, width, height) {
  if (width === image.width && height === image.height) return image;
  const { data, channels } = image;
  const columns = linearParts(image.width, width);
  const row = width * channels;
  const across = new Int32Array(image.height * row);
  for (let y = 0, to = 0; y < image.height; y += 1) {
    const start = y * image.width;
    for (const { low, high, weights } of columns) {
      for (let c = 0; c < channels; c += 1, to += 1) {
        across[to] =
          weights[0] * data[(start + low) * channels + c] +
          weights[1] * data[(start + high) * channels + c];
      }
    }
  }
  const result = new Uint8Array(height * row);
  linearParts(image.height, height).forEach(({ low, high, weights }, y) => {
    for (let k = 0; k < row; k += 1) {
      const upper = (weights[0] * (across[low * row + k] >> 4)) >> 16;
      const lower = (weights[1] * (across[high * row + k] >> 4)) >> 16;
      result[y * row + k] = (upper + lower + 2) >> 2;
    }
  });
  return { data: result, width, height, channels };
}

/** As data.images.files.resize: to a square, stretching what is none. */
export function toSquare(image, side) {
  const smaller = shrink(
    image,
    Math.min(image.width, side),
    Math.min(image.height, side),
  );
  return enlarge(smaller, side, side);
}
