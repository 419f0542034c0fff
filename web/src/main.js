// The page: takes images, asks the worker, shows and tells what it answers.
import { ask } from "./ask.js";
import { Camera } from "./camera.js";
import { Cards } from "./cards.js";
import { drawBoxes } from "./drawing.js";
import { read } from "./images.js";
import { describeNetwork, tell, titleNetwork } from "./telling.js";

const SPOKEN_EVERY = 3000; // Milliseconds; a camera's answers change faster than speech.

const get = (id) => document.getElementById(id);
const file = get("file");
const cameraButton = get("camera");
const pauseButton = get("pause");
const facing = get("facing");
const whole = get("whole");
const network = get("network");
const confidence = get("confidence");
const status = get("status");
const errorLine = get("error");
const canvas = get("image");
const stage = get("stage");
const faceList = get("faces");

const camera = new Camera(get("video"), () => turnCameraOff("The camera is gone."));
const cards = new Cards(faceList, { onExplain: pause, onError: say });
let shown = null; // The last answer.
let turn = 0; // Answers to an earlier image are dropped.
let used = 0; // The network that answers, by its place in the list.
let lastBlob = null; // Analyzed again when an option changes.

const leastConfidence = () => Number(confidence.value) / 100;
const words = () => tell(shown, leastConfidence(), !camera.on);

function say(error) {
  errorLine.textContent = `${error.message ?? error}`;
}

/** What is written again is spoken again, so the same is not. */
function announce(text) {
  if (status.textContent !== text) status.textContent = text;
}

function clear() {
  shown = lastBlob = null;
  cards.clear();
  stage.hidden = true;
  canvas.setAttribute("aria-label", "No image");
}

/** Shows an error, and no answer of before beside it. */
function fail(error) {
  clear();
  announce("");
  say(error);
}

function label() {
  canvas.setAttribute("aria-label", `The image. ${words()}`);
}

/** An answer with the image that it is of, always both. */
function show(answer, image) {
  shown = answer;
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  drawBoxes(context, answer.faces);
  stage.hidden = false;
  cards.show(answer, leastConfidence());
  label();
}

async function analyze(image) {
  // The image's pixels go to the worker and are gone here.
  const copy = await createImageBitmap(image);
  const options = { whole: whole.checked, network: used };
  const answer = await ask("analyze", { image, ...options }, [image.data.buffer]);
  return { answer, copy };
}

async function takeFile(blob) {
  stopCamera();
  const mine = ++turn;
  lastBlob = blob;
  errorLine.textContent = "";
  announce("Looking for faces …");
  try {
    const { answer, copy } = await analyze(await read(blob, blob.name || "This"));
    if (mine === turn) {
      show(answer, copy);
      announce(words());
    }
    copy.close();
  } catch (error) {
    if (mine === turn) fail(error);
  }
}

function showControls() {
  cameraButton.textContent = camera.on ? "Stop the camera" : "Start the camera";
  cameraButton.classList.toggle("active", camera.on);
  if (!camera.on) {
    const gone = [get("pause-line"), get("facing-line")];
    // What is hidden loses the focus.
    if (gone.some((line) => line.contains(document.activeElement))) cameraButton.focus();
    gone.forEach((line) => (line.hidden = true));
  } else {
    get("pause-line").hidden = false;
  }
  pauseButton.textContent = camera.paused ? "Paused – continue" : "Pause";
  pauseButton.classList.toggle("active", !camera.paused);
  stage.classList.toggle("paused", camera.paused);
}

async function listCameras() {
  const known = await Camera.list();
  facing.replaceChildren(...known.map(({ id, name }) => new Option(name, id)));
  facing.value = camera.deviceId ?? "";
  get("facing-line").hidden = !camera.on || known.length < 2;
}

async function startCamera(deviceId) {
  const mine = ++turn;
  clear();
  errorLine.textContent = "";
  announce("Starting the camera …");
  try {
    if (!(await camera.start(deviceId)) || mine !== turn) return;
    showControls();
    listCameras().catch(() => {}); // Without the list, the camera that is on stays.
    await watch(mine);
  } catch (error) {
    if (mine !== turn) return;
    stopCamera();
    fail(error);
  }
}

function stopCamera() {
  camera.stop();
  showControls();
}

/** Its last image goes with it: who turns it off does not want to be seen. */
function turnCameraOff(reason) {
  turn += 1;
  stopCamera();
  clear();
  announce(reason);
}

/** The image and its cards stand still together: what is looked at belongs together. */
function pause() {
  if (!camera.on || camera.paused || !shown) return;
  camera.paused = true;
  showControls();
  announce(`Paused. ${words()}`);
}

function resume() {
  camera.paused = false;
  showControls();
}

async function watch(mine) {
  let spokenAt = -SPOKEN_EVERY;
  while (mine === turn) {
    const image = camera.paused ? null : camera.grab();
    if (image) {
      const { answer, copy } = await analyze(image);
      if (mine === turn && !camera.paused) {
        show(answer, copy);
        const now = performance.now();
        if (words() !== status.textContent && now - spokenAt >= SPOKEN_EVERY) {
          announce(words());
          spokenAt = now;
        }
      }
      copy.close();
    }
    await new Promise(requestAnimationFrame);
  }
}

file.addEventListener("change", () => {
  if (file.files.length) takeFile(file.files[0]);
  file.value = ""; // The same file can be chosen again.
});

cameraButton.addEventListener("click", () => {
  if (camera.on) turnCameraOff("The camera is off.");
  else startCamera();
});

pauseButton.addEventListener("click", () => (camera.paused ? resume() : pause()));
facing.addEventListener("change", () => startCamera(facing.value));
navigator.mediaDevices?.addEventListener?.("devicechange", () => {
  if (camera.on) listCameras().catch(() => {});
});

// Safari gives a button that is clicked no focus; its click pauses by `onExplain`.
faceList.addEventListener("focusin", pause);

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden" && camera.on) {
    turnCameraOff("The camera was turned off while the page was hidden.");
  }
});

/** Looks again at what is shown, as an option has changed. */
function lookAgain() {
  if (camera.on) resume();
  else if (lastBlob) takeFile(lastBlob);
}

whole.addEventListener("change", lookAgain);

function describe(about) {
  get("about").textContent = describeNetwork(about);
  get("card").hidden = !about.card;
  if (about.card) get("card-link").href = `models/${about.card}`;
}

network.addEventListener("change", async () => {
  const index = network.selectedIndex;
  errorLine.textContent = "";
  const before = status.textContent;
  announce("Loading the network …");
  try {
    describe(await ask("describe", index));
    used = index;
    announce("");
    lookAgain();
  } catch (error) {
    network.selectedIndex = used;
    announce(before);
    say(new Error(`The network could not be loaded: ${error.message}`));
  }
});

function showConfidence() {
  const text = `${confidence.value} %`;
  get("confidence-value").textContent = text;
  confidence.setAttribute("aria-valuetext", text);
  cards.retitle(leastConfidence());
  if (shown) label();
}

confidence.addEventListener("input", showConfidence);
confidence.addEventListener("change", () => {
  if (shown) announce(camera.paused ? `Paused. ${words()}` : words());
});
// A browser that keeps what was set before a reload, or comes back to the page.
window.addEventListener("pageshow", showConfidence);
showConfidence();

const drop = get("drop");
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // Else the browser leaves the page for the image.
    drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
  });
}

function takeTransfer(transfer) {
  if (file.disabled || !transfer?.files.length) return;
  takeFile(transfer.files[0]);
  if (transfer.files.length > 1) say("One image at a time: only the first is shown.");
}
document.addEventListener("drop", (event) => {
  if (!event.dataTransfer?.files.length) say("This is no file; save the image first.");
  takeTransfer(event.dataTransfer);
});
document.addEventListener("paste", (event) => takeTransfer(event.clipboardData));

// A browser that keeps the state of a form may have kept these enabled.
file.disabled = cameraButton.disabled = network.disabled = true;
try {
  const known = await ask("load");
  network.replaceChildren(...known.map((about) => new Option(titleNetwork(about))));
  network.selectedIndex = used;
  get("network-line").hidden = known.length < 2;
  describe(known[0]);
  announce("Ready: choose an image or start the camera.");
  file.disabled = false;
  cameraButton.disabled = false;
  network.disabled = false;
} catch (error) {
  fail(new Error(`The networks could not be loaded: ${error.message}`));
}
