// Images out of files and the camera, as pixels.

// What every browser's canvas holds (Safari's, on a phone, the least) and a worker's
// memory bears several times.
const MAX_PIXELS = 16e6;
const MAX_SIDE = 16384;

/** What an image is shrunk to, so that a canvas holds it. */
export function sizeWithin(width, height) {
  const scale = Math.min(
    1,
    Math.sqrt(MAX_PIXELS / (width * height)),
    MAX_SIDE / Math.max(width, height),
  );
  return [width, height].map((x) => Math.max(1, Math.floor(scale * x)));
}

/** ImageData of a drawable; what is transparent lies on white, as in Python. */
export function pixelsOf(source, width, height) {
  const offscreen = new OffscreenCanvas(width, height);
  const context = offscreen.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/** A file's image, upright, as ImageData; `name` is what an error calls it. */
export async function read(blob, name) {
  let bitmap;
  try {
    // Numbers as they are in the file, as in Python; only the camera's turn is undone.
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${name} is no image that this browser can read.`);
  }
  const [width, height] = sizeWithin(bitmap.width, bitmap.height);
  const image = pixelsOf(bitmap, width, height);
  bitmap.close();
  return image;
}
