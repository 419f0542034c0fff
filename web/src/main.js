// The page: takes pictures, asks the worker, shows and tells what it answers.
import { describeMap, drawBoxes, drawFace } from "./drawing.js";

const UNCERTAIN = "uncertain";
const MAX_CAMERA_SIDE = 640;
const SPOKEN_EVERY = 3000; // Milliseconds; a camera's answers change faster than speech.

const get = (id) => document.getElementById(id);
const file = get("file");
const camera = get("camera");
const whole = get("whole");
const confidence = get("confidence");
const status = get("status");
const errorLine = get("error");
const canvas = get("picture");
const video = get("video");
const faceList = get("faces");

const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
let nextId = 0;

function ask(kind, payload, transfer = []) {
  return new Promise((resolve, reject) => {
    const id = nextId++;
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, kind, payload }, transfer);
  });
}

worker.onmessage = ({ data: { id, result, error } }) => {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error === undefined) resolve(result);
  else reject(new Error(error));
};

worker.onerror = (event) => {
  const error = new Error(event.message || "the worker could not start");
  waiting.forEach(({ reject }) => reject(error));
  waiting.clear();
};

const percent = (x) => `${Math.round(100 * x)} %`;
let shown = null; // The last answer, and the picture that it is of.
let turn = 0; // Answers to an earlier picture are dropped.
let stream = null;
let lastBlob = null; // To be looked at again when an option changes.

function fail(error) {
  status.textContent = "";
  errorLine.textContent = `${error.message ?? error}`;
}

function judge({ probabilities }, classNames) {
  const best = probabilities.indexOf(Math.max(...probabilities));
  const sure = probabilities[best] >= Number(confidence.value) / 100;
  return { best, label: sure ? classNames[best] : UNCERTAIN, likeliest: classNames[best] };
}

function tell({ faces, classNames }) {
  if (!faces.length) {
    return "No face found. If the picture is one cropped face, tick the box above.";
  }
  const each = faces.map((face, i) => {
    const { best, label, likeliest } = judge(face, classNames);
    const share = percent(face.probabilities[best]);
    const guess = label === UNCERTAIN ? `uncertain, perhaps ${likeliest}` : label;
    return `Face ${i + 1}: ${guess}, ${share}.`;
  });
  return `${faces.length === 1 ? "One face" : `${faces.length} faces`}. ${each.join(" ")}`;
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function card(face, index, { classNames, side }) {
  const { best, label, likeliest } = judge(face, classNames);
  const share = percent(face.probabilities[best]);
  const title =
    label === UNCERTAIN ? `uncertain (${likeliest} ${share})` : `${label} ${share}`;
  const small = element("canvas");
  small.setAttribute("role", "img");
  small.setAttribute("aria-label", `Face ${index + 1} as the network sees it`);
  drawFace(small, face.image, side);
  const rows = classNames.map((name, i) => {
    const value = face.probabilities[i];
    const heading = element("th", { scope: "row" }, name);
    const meter = element("meter", { min: 0, max: 1, value });
    meter.setAttribute("aria-hidden", "true"); // The number beside it says the same.
    const row = element(
      "tr",
      { className: i === best ? "best" : "" },
      heading,
      element("td", {}, meter),
      element("td", { className: "value" }, `${(100 * value).toFixed(1)} %`),
    );
    return row;
  });
  const table = element(
    "table",
    {},
    element("caption", {}, "Calibrated probabilities"),
    element("tbody", {}, ...rows),
  );
  const words = element("p", { className: "hint" });
  words.setAttribute("aria-live", "polite");
  const button = element("button", { type: "button" }, "Show what mattered");
  button.setAttribute("aria-pressed", "false");
  button.setAttribute("aria-label", `Show what mattered, face ${index + 1}`);
  button.addEventListener("click", () => toggleMap(face, best, side, small, button, words));
  const item = element(
    "li",
    { className: "face" },
    element("h3", {}, `Face ${index + 1}: ${title}`),
    element("div", { className: "body" }, small, table),
    button,
    words,
  );
  item.dataset.probabilities = JSON.stringify(face.probabilities);
  item.dataset.box = JSON.stringify(face.box);
  return item;
}

async function toggleMap(face, target, side, small, button, words) {
  if (button.getAttribute("aria-pressed") === "true") {
    button.setAttribute("aria-pressed", "false");
    words.textContent = "";
    drawFace(small, face.image, side);
    return;
  }
  button.disabled = true;
  try {
    const { map } = await ask("explain", { image: face.image, target });
    drawFace(small, face.image, side, map);
    words.textContent = describeMap(Array.from(map), side);
    button.setAttribute("aria-pressed", "true");
  } catch (error) {
    fail(error);
  } finally {
    button.disabled = false;
    button.focus();
  }
}

function draw(source, width, height, faces) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  context.drawImage(source, 0, 0, width, height);
  drawBoxes(context, faces);
  get("stage").hidden = false;
}

function show(answer) {
  shown = answer;
  faceList.replaceChildren(...answer.faces.map((face, i) => card(face, i, answer)));
  const text = tell(answer);
  canvas.setAttribute("aria-label", `The picture. ${text}`);
  return text;
}

function pixelsOf(source, width, height) {
  const offscreen = new OffscreenCanvas(width, height);
  const context = offscreen.getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

async function takeFile(blob) {
  stopCamera();
  const mine = ++turn;
  errorLine.textContent = "";
  status.textContent = "Looking for faces …";
  try {
    let bitmap;
    try {
      // Numbers as they are in the file, as in Python; only the camera's turn is undone.
      bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
    } catch {
      throw new Error(`${blob.name || "This"} is no picture that this browser can read.`);
    }
    const { width, height } = bitmap;
    const picture = pixelsOf(bitmap, width, height);
    const answer = await ask("analyse", { picture, whole: whole.checked }, [
      picture.data.buffer,
    ]);
    if (mine !== turn) return;
    draw(bitmap, width, height, answer.faces);
    status.textContent = show(answer);
    lastBlob = blob;
  } catch (error) {
    if (mine === turn) fail(error);
  }
}

async function startCamera() {
  const mine = ++turn;
  errorLine.textContent = "";
  status.textContent = "Starting the camera …";
  try {
    if (!navigator.mediaDevices) throw new Error("This page may not use a camera here.");
    const got = await navigator.mediaDevices.getUserMedia({
      video: { width: { ideal: MAX_CAMERA_SIDE }, facingMode: "user" },
      audio: false,
    });
    if (mine !== turn) {
      got.getTracks().forEach((track) => track.stop());
      return;
    }
    stream = got;
    video.srcObject = got;
    await video.play();
    camera.textContent = "Stop the camera";
    camera.setAttribute("aria-pressed", "true");
    watch(mine);
  } catch (error) {
    if (mine !== turn) return;
    stopCamera();
    const refused = error.name === "NotAllowedError" || error.name === "NotFoundError";
    fail(refused ? new Error("There is no camera that this page may use.") : error);
  }
}

function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
  camera.textContent = "Start the camera";
  camera.setAttribute("aria-pressed", "false");
}

async function watch(mine) {
  let spoken = "";
  let spokenAt = -SPOKEN_EVERY;
  while (mine === turn && stream) {
    const longest = Math.max(video.videoWidth, video.videoHeight, 1);
    const scale = Math.min(1, MAX_CAMERA_SIDE / longest);
    const width = Math.round(scale * video.videoWidth);
    const height = Math.round(scale * video.videoHeight);
    if (width && height) {
      const picture = pixelsOf(video, width, height);
      const frame = await createImageBitmap(picture);
      try {
        const answer = await ask("analyse", { picture, whole: whole.checked }, [
          picture.data.buffer,
        ]);
        if (mine !== turn || !stream) return;
        draw(frame, width, height, answer.faces);
        // A control that somebody is on stays where it is.
        if (!faceList.contains(document.activeElement)) {
          const text = show(answer);
          const now = performance.now();
          if (text !== spoken && now - spokenAt >= SPOKEN_EVERY) {
            status.textContent = spoken = text;
            spokenAt = now;
          }
        }
      } catch (error) {
        if (mine === turn) {
          stopCamera();
          fail(error);
        }
        return;
      }
    }
    await new Promise(requestAnimationFrame);
  }
}

file.addEventListener("change", () => {
  if (file.files.length) takeFile(file.files[0]);
  file.value = ""; // The same file can be chosen again.
});

camera.addEventListener("click", () => {
  if (stream) {
    turn += 1;
    stopCamera();
    status.textContent = "The camera is off.";
  } else {
    startCamera();
  }
});

whole.addEventListener("change", () => {
  if (!stream && lastBlob) takeFile(lastBlob);
});

confidence.addEventListener("input", () => {
  const text = `${confidence.value} %`;
  get("confidence-value").textContent = text;
  confidence.setAttribute("aria-valuetext", text);
  if (shown) status.textContent = show(shown);
});

const drop = get("drop");
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // Else the browser leaves the page for the picture.
    drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
  });
}

function takeTransfer(transfer) {
  if (file.disabled || !transfer?.files.length) return;
  takeFile(transfer.files[0]);
}
document.addEventListener("drop", (event) => takeTransfer(event.dataTransfer));
document.addEventListener("paste", (event) => takeTransfer(event.clipboardData));

try {
  const about = await ask("load");
  get("about").textContent =
    `EmoSynthNet, trained on ${about.data_set}: ${about.class_names.join(", ")}. ` +
    "Faces are found by CenterFace.";
  status.textContent = "Ready: choose a picture or start the camera.";
  file.disabled = false;
  camera.disabled = false;
} catch (error) {
  fail(new Error(`The networks could not be loaded: ${error.message}`));
}
