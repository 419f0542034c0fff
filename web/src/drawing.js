// What the page draws: boxes on the image, a face as the network sees it, its map.

/** Boxes with numbers, in the image's own pixels. */
export function drawBoxes(context, faces) {
  const { width, height } = context.canvas;
  const line = Math.max(2, Math.round(Math.max(width, height) / 250));
  const size = Math.max(16, Math.round(Math.max(width, height) / 28));
  context.lineWidth = line;
  context.font = `bold ${size}px system-ui, sans-serif`;
  context.textBaseline = "top";
  faces.forEach(({ box }, i) => {
    if (!box) return;
    const { left, top, right, bottom } = box;
    // Dark beside light, to be seen on any image.
    context.strokeStyle = "#000";
    context.strokeRect(left - line, top - line, right - left + 2 * line, bottom - top + 2 * line);
    context.strokeStyle = "#fff";
    context.strokeRect(left, top, right - left, bottom - top);
    const text = String(i + 1);
    const room = context.measureText(text).width + size / 2;
    context.fillStyle = "#000";
    context.fillRect(left, top, room, size * 1.2);
    context.fillStyle = "#fff";
    context.fillText(text, left + size / 4, top + size * 0.1);
  });
}

/** A gray image, with what lowered the probability in red where a map is given. */
export function drawFace(canvas, image, side, map = null) {
  canvas.width = side;
  canvas.height = side;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(side, side);
  const largest = map ? Math.max(...map, 1e-6) : 1;
  for (let i = 0; i < side * side; i += 1) {
    const share = map ? Math.max(0, map[i]) / largest : 0;
    const gray = map ? 0.75 * image[i] : image[i];
    pixels.data[4 * i] = gray * (1 - share) + 255 * share;
    pixels.data[4 * i + 1] = gray * (1 - share) + 70 * share;
    pixels.data[4 * i + 2] = gray * (1 - share) + 40 * share;
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

const REGIONS = [
  ["the upper left", "the upper middle", "the upper right"],
  ["the middle left", "the middle", "the middle right"],
  ["the lower left", "the lower middle", "the lower right"],
];

/** Where the map is highest, in words. */
export function describeMap(map, side) {
  const best = map.indexOf(Math.max(...map));
  if (map[best] <= 0) return "No covered part lowered the probability.";
  const third = (x) => Math.min(2, Math.floor((3 * x) / side));
  const place = REGIONS[third(Math.floor(best / side))][third(best % side)];
  const drop = Math.round(100 * map[best]);
  return `Covering ${place} of the image lowered the probability most, by ${drop} points.`;
}
