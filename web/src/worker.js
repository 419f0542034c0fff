// Everything that computes, apart from the page, so that the page stays responsive.
import * as ort from "onnxruntime-web/wasm";
import { decode, prepare, squareOf } from "./faces.js";
import { occlude, toMap } from "./occlusion.js";
import { cutSquare, fromImageData, toGray, toSquare } from "./pixels.js";

const BATCH = 32;

ort.env.wasm.numThreads = 1; // More need headers that a plain static server lacks.
ort.env.wasm.wasmPaths = new URL("runtime/", self.location.href).href;

const fetched = (name) => new URL(`models/${name}`, self.location.href).href;

async function list() {
  const response = await fetch(fetched("networks.json"));
  if (!response.ok) throw new Error("the models are missing: npm run build writes them");
  return response.json();
}

const listing = list();
const detecting = ort.InferenceSession.create(fetched("detector.onnx"));
const sessions = new Map(); // By the network's index; each is loaded once.

/** What is known about a network of the list, and its session. */
async function open(index) {
  const about = (await listing)[index];
  if (!sessions.has(index)) {
    sessions.set(index, await ort.InferenceSession.create(fetched(about.file)));
  }
  return { about, expression: sessions.get(index) };
}

async function load() {
  await Promise.all([detecting, open(0)]);
  return listing;
}

async function classify(images, count, network) {
  const { about, expression } = await open(network);
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

async function findFaces(image) {
  const detector = await detecting;
  const { input, dims, scales } = prepare(image);
  const answer = await detector.run({ image: new ort.Tensor("float32", input, dims) });
  // By the names that CenterFace's file gives them.
  const [centers, sizes, offsets] = ["537", "538", "539"].map((name) => answer[name]);
  const [rows, columns] = centers.dims.slice(2);
  const maps = { centers: centers.data, sizes: sizes.data, offsets: offsets.data };
  return decode({ ...maps, rows, columns }, scales, image);
}

/** Faces with the network's image of each, and its probabilities. */
async function analyze({ image, whole, network }) {
  const { about } = await open(network);
  const [side] = about.image_shape;
  const rgb = fromImageData(image);
  const boxes = whole ? [null] : await findFaces(rgb);
  const size = side * side;
  const images = new Uint8Array(boxes.length * size);
  boxes.forEach((box, i) => {
    const crop = box ? cutSquare(rgb, squareOf(box)) : rgb;
    images.set(toSquare(toGray(crop), side).data, i * size);
  });
  const probabilities = await classify(images, boxes.length, network);
  const classes = about.class_names.length;
  return {
    side,
    network,
    classNames: about.class_names,
    faces: boxes.map((box, i) => ({
      box,
      image: images.slice(i * size, (i + 1) * size),
      probabilities: Array.from(probabilities.slice(i * classes, (i + 1) * classes)),
    })),
  };
}

async function explain({ image, target, network }) {
  const { about } = await open(network);
  const [side] = about.image_shape;
  const classes = about.class_names.length;
  const { images, places } = occlude(image, side);
  const [whole, covered] = [
    await classify(image, 1, network),
    await classify(images, places.length, network),
  ];
  const drops = places.map((_, i) => whole[target] - covered[i * classes + target]);
  return { map: toMap(places, drops, side) };
}

const describe = async (network) => (await open(network)).about;

const handlers = { load, describe, analyze, explain };

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
