// On which parts of a face the prediction rests: patch after patch is painted over with the
// face's mean gray, and the map is how much the class's probability drops by it.

const PATCH = 10;
const STEP = 3;

function starts(side) {
  const found = [];
  for (let at = 0; at < side - PATCH; at += STEP) found.push(at);
  return [...found, side - PATCH];
}

/** All copies with a patch over them, one after the other: uint8 (places, side, side). */
export function occlude(gray, side) {
  const mean = Math.round(gray.reduce((sum, x) => sum + x, 0) / gray.length);
  const along = starts(side);
  const places = along.flatMap((top) => along.map((left) => ({ top, left })));
  const images = new Uint8Array(places.length * gray.length);
  places.forEach(({ top, left }, i) => {
    const start = i * gray.length;
    images.set(gray, start);
    for (let y = top; y < top + PATCH; y += 1) {
      images.fill(mean, start + y * side + left, start + y * side + left + PATCH);
    }
  });
  return { images, places };
}

/** Mean drop of the probability over the patches that cover a pixel: float (side, side). */
export function toMap(places, drops, side) {
  const sums = new Float32Array(side * side);
  const counts = new Float32Array(side * side);
  places.forEach(({ top, left }, i) => {
    for (let y = top; y < top + PATCH; y += 1) {
      for (let x = left; x < left + PATCH; x += 1) {
        sums[y * side + x] += drops[i];
        counts[y * side + x] += 1;
      }
    }
  });
  return sums.map((sum, i) => sum / counts[i]);
}
