// Everything that computes, apart from the page, so that the page never stands still.
import * as ort from "onnxruntime-web/wasm";
import { decode, prepare, squareOf } from "./faces.js";
import { occlude, toMap } from "./occlusion.js";
import { cutSquare, fromImageData, toGrey, toSquare } from "./pixels.js";

const BATCH = 32;

ort.env.wasm.numThreads = 1; // More need headers that a plain static server lacks.
ort.env.wasm.wasmPaths = new URL("runtime/", self.location.href).href;

const fetched = (name) => new URL(`models/${name}`, self.location.href).href;

async function load() {
  const response = await fetch(fetched("expression.json"));
  if (!response.ok) throw new Error("the models are missing: npm run build writes them");
  const [about, detector, expression] = await Promise.all([
    response.json(),
    ort.InferenceSession.create(fetched("detector.onnx")),
    ort.InferenceSession.create(fetched("expression.onnx")),
  ]);
  return { about, detector, expression };
}

const loading = load();

async function classify(images, count) {
  const { about, expression } = await loading;
  const [height, width] = about.image_shape;
  const size = height * width;
  const classes = about.class_names.length;
  const probabilities = new Float32Array(count * classes);
  for (let start = 0; start < count; start += BATCH) {
    const end = Math.min(start + BATCH, count);
    const part = images.slice(start * size, end * size);
    const tensor = new ort.Tensor("uint8", part, [end - start, height, width, 1]);
    const answer = await expression.run({ images: tensor });
    probabilities.set(answer.probabilities.data, start * classes);
  }
  return probabilities;
}

async function findFaces(picture) {
  const { detector } = await loading;
  const { input, dims, scales } = prepare(picture);
  const answer = await detector.run({ picture: new ort.Tensor("float32", input, dims) });
  // By the names that CenterFace's file gives them.
  const [centres, sizes, offsets] = ["537", "538", "539"].map((name) => answer[name]);
  const [rows, columns] = centres.dims.slice(2);
  const maps = { centres: centres.data, sizes: sizes.data, offsets: offsets.data };
  return decode({ ...maps, rows, columns }, scales, picture);
}

/** Faces with the network's image of each, and its probabilities. */
async function analyse({ picture, whole }) {
  const { about } = await loading;
  const [side] = about.image_shape;
  const rgb = fromImageData(picture);
  const boxes = whole ? [null] : await findFaces(rgb);
  const size = side * side;
  const images = new Uint8Array(boxes.length * size);
  boxes.forEach((box, i) => {
    const crop = box ? cutSquare(rgb, squareOf(box)) : rgb;
    images.set(toSquare(toGrey(crop), side).data, i * size);
  });
  const probabilities = await classify(images, boxes.length);
  const classes = about.class_names.length;
  return {
    side,
    classNames: about.class_names,
    faces: boxes.map((box, i) => ({
      box,
      image: images.slice(i * size, (i + 1) * size),
      probabilities: Array.from(probabilities.slice(i * classes, (i + 1) * classes)),
    })),
  };
}

async function explain({ image, target }) {
  const { about } = await loading;
  const [side] = about.image_shape;
  const classes = about.class_names.length;
  const { images, places } = occlude(image, side);
  const [whole, covered] = [
    await classify(image, 1),
    await classify(images, places.length),
  ];
  const falls = places.map((_, i) => whole[target] - covered[i * classes + target]);
  return { side, map: toMap(places, falls, side) };
}

const handlers = { load: async () => (await loading).about, analyse, explain };

// One after the other: a session runs one batch at a time.
let queue = Promise.resolve();

async function answer({ id, kind, payload }) {
  try {
    self.postMessage({ id, result: await handlers[kind](payload) });
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error) });
  }
}

self.onmessage = ({ data }) => {
  queue = queue.then(() => answer(data));
};
