// The built page in headless Chromium: its answers against Python's, the keyboard, the
// camera, what a screen reader is told. Needs dist/ (npm run build), Chromium
// (CHROMIUM, or Debian's place) and PYTHON with emosynth_jax[export,predict] and
// scikit-image, which ships the picture.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { serve } from "../serve.mjs";
import { toGrey, toSquare } from "../src/pixels.js";

const here = dirname(fileURLToPath(import.meta.url));
const own = join(here, "../../.venv/bin/python");
const python = process.env.PYTHON ?? (existsSync(own) ? own : "python3");
const shots = join(here, "../screenshots");
const pictures = mkdtempSync(join(tmpdir(), "pictures-"));

let browser;
let server;
let address;
let expected;

before(async () => {
  const printed = execFileSync(python, [join(here, "expected.py"), pictures], {
    env: { ...process.env, PYTHONPATH: join(here, "../..") },
    maxBuffer: 2 ** 27,
    stdio: ["ignore", "pipe", "ignore"],
  });
  expected = JSON.parse(printed);
  mkdirSync(shots, { recursive: true });
  server = await serve(0);
  address = `http://127.0.0.1:${server.address().port}/`;
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--no-first-run",
      "--use-fake-device-for-media-stream",
      "--use-fake-ui-for-media-stream",
    ],
  });
});

after(async () => {
  await browser?.close();
  server?.close();
});

/** A page that is ready, and every address that it asked for. */
async function open(options = {}) {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 900 },
    permissions: ["camera"],
    ...options,
  });
  context.setDefaultTimeout(120_000);
  const page = await context.newPage();
  const requests = [];
  const errors = [];
  page.on("request", (request) => requests.push(request));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  await page.goto(address);
  await page.getByRole("status").filter({ hasText: "Ready" }).waitFor();
  return { page, requests, errors, context };
}

async function take(page, file) {
  await page.getByLabel("Choose a picture").setInputFiles(file);
  await page
    .getByRole("status")
    .filter({ hasText: /face/i })
    .filter({ hasNotText: "Looking" })
    .waitFor();
}

function answers(page) {
  return page.locator(".face").evaluateAll((cards) =>
    cards.map(({ dataset }) => ({
      box: JSON.parse(dataset.box),
      probabilities: JSON.parse(dataset.probabilities),
    })),
  );
}

test("pixels are prepared as Python prepares them", () => {
  const { grey, sizes } = expected;
  const found = toGrey({ data: grey.rgb, width: 47, height: 61 });
  assert.deepEqual(Array.from(found.data), grey.grey);
  for (const [shape, { from, to }] of Object.entries(sizes)) {
    const [height, width] = shape.split("x").map(Number);
    const { data } = toSquare({ data: from, width, height, channels: 1 }, 48);
    const differences = to.map((x, i) => Math.abs(x - data[i]));
    // Enlarging may round a half otherwise; shrinking may not.
    assert.ok(Math.max(...differences) <= (Math.min(width, height) < 47 ? 1 : 0), shape);
    assert.ok(differences.filter(Boolean).length < 0.01 * to.length, shape);
  }
});

test("answers equal Python's", async () => {
  const { page, requests, errors, context } = await open();
  for (const name of ["one", "two", "large"]) {
    await take(page, join(pictures, `${name}.png`));
    const found = await answers(page);
    const wanted = expected.answers[name];
    assert.equal(found.length, wanted.length, name);
    wanted.forEach((face, i) => {
      const { box, probabilities } = found[i];
      ["left", "top", "right", "bottom"].forEach((side, k) => {
        assert.ok(Math.abs(box[side] - face.box[k]) < 0.1, `${name} ${side}`);
      });
      Object.values(face.probabilities).forEach((p, k) => {
        assert.ok(Math.abs(p - probabilities[k]) < 1e-3, `${name}: ${p}`);
      });
    });
  }
  await page.getByRole("checkbox", { name: "one cropped face" }).check();
  await take(page, join(pictures, "face.png"));
  await page.locator(".face canvas").waitFor();
  const [{ box, probabilities }] = await answers(page);
  assert.equal(box, null);
  Object.values(expected.answers.face[0].probabilities).forEach((p, k) => {
    assert.ok(Math.abs(p - probabilities[k]) < 1e-3);
  });
  assert.deepEqual(errors, []);
  // Nothing leaves the machine, and nothing but the page's own files is fetched.
  for (const request of requests) {
    assert.match(request.url(), /^(http:\/\/127\.0\.0\.1:\d+\/|blob:|data:)/);
    assert.equal(request.method(), "GET");
  }
  await context.close();
});

for (const width of [360, 1280]) {
  test(`what is shown and told, ${width} pixels wide`, async () => {
    const { page, context } = await open({ viewport: { width, height: 900 } });
    await take(page, join(pictures, "two.png"));
    const told = await page.locator("#status").textContent();
    const [first] = expected.answers.two;
    assert.match(told, new RegExp(`^2 faces\\. Face 1: ${first.label}, \\d+ %\\. Face 2:`));
    assert.match(
      await page.locator("#picture").getAttribute("aria-label"),
      /^The picture\. 2 faces/,
    );
    const button = page.getByRole("button", { name: "Show what mattered, face 1" });
    await button.click();
    await page.locator(".face .hint").first().filter({ hasText: /\w/ }).waitFor();
    assert.equal(await button.getAttribute("aria-pressed"), "true");
    assert.match(await page.locator(".face .hint").first().textContent(), /ower/);
    const reds = await page.locator(".face canvas").first().evaluate((canvas) => {
      const { data } = canvas
        .getContext("2d")
        .getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((x, i) => i % 4 === 0 && x > data[i + 1] + 50).length;
    });
    assert.ok(reds > 20, `${reds} pixels are marked`);
    const overflow = await page.evaluate(
      () => document.documentElement.scrollWidth - window.innerWidth,
    );
    assert.ok(overflow <= 0, `the page is ${overflow} pixels too wide`);
    await page.screenshot({ path: join(shots, `${width}.png`), fullPage: true });
    await button.click();
    assert.equal(await button.getAttribute("aria-pressed"), "false");
    // Above every confidence, nothing is certain.
    await page.locator("#confidence").fill("95");
    const faces = await answers(page);
    const sure = faces.filter(({ probabilities }) => Math.max(...probabilities) >= 0.95);
    const labels = await page.locator(".face h3").allTextContents();
    assert.equal(
      labels.filter((text) => text.includes("uncertain")).length,
      faces.length - sure.length,
    );
    await context.close();
  });
}

test("everything is reached by keyboard, in the order of the page", async () => {
  const { page, context } = await open();
  await take(page, join(pictures, "one.png"));
  const reached = [];
  for (let i = 0; i < 7; i += 1) {
    await page.keyboard.press("Tab");
    reached.push(
      await page.evaluate(() => {
        const { id, className, textContent } = document.activeElement;
        return id || className || textContent;
      }),
    );
  }
  assert.deepEqual(reached.slice(0, 6), [
    "skip",
    "file",
    "camera",
    "whole",
    "confidence",
    "Show what mattered",
  ]);
  await page.locator(".face button").focus();
  await page.keyboard.press("Enter");
  await page.locator('.face button[aria-pressed="true"]').waitFor();
  assert.equal(
    await page.evaluate(() => document.activeElement.textContent),
    "Show what mattered",
  );
  await context.close();
});

test("a picture that is dropped, one without a face, and what is no picture", async () => {
  const { page, context } = await open();
  const blank = join(pictures, "blank.html");
  writeFileSync(blank, "<p>no picture</p>");
  await page.getByLabel("Choose a picture").setInputFiles(blank);
  const alert = page.getByRole("alert");
  await alert.filter({ hasText: "blank.html is no picture" }).waitFor();
  await page.evaluate(async () => {
    const canvas = new OffscreenCanvas(80, 60);
    canvas.getContext("2d").fillRect(0, 0, 40, 60);
    const file = new File([await canvas.convertToBlob()], "black.png");
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(file);
    document
      .getElementById("drop")
      .dispatchEvent(new DragEvent("drop", { bubbles: true, dataTransfer }));
  });
  await page.getByRole("status").filter({ hasText: "No face found" }).waitFor();
  assert.equal(await page.locator("#error").textContent(), "");
  await context.close();
});

test("the camera starts, is answered, and stops", async () => {
  const { page, errors, context } = await open();
  await page.getByRole("button", { name: "Start the camera" }).click();
  const stop = page.getByRole("button", { name: "Stop the camera" });
  await stop.waitFor();
  assert.equal(await stop.getAttribute("aria-pressed"), "true");
  // Chromium's fake stream has no face; as one cropped face each frame is answered.
  await page.getByRole("status").filter({ hasText: "No face found" }).waitFor();
  await page.getByRole("checkbox", { name: "one cropped face" }).check();
  await page.locator(".face").waitFor();
  const [{ probabilities }] = await answers(page);
  assert.ok(Math.abs(probabilities.reduce((a, b) => a + b) - 1) < 1e-4);
  await page.screenshot({ path: join(shots, "camera.png") });
  await stop.click();
  await page.getByRole("status").filter({ hasText: "The camera is off" }).waitFor();
  assert.equal(await page.evaluate(() => document.getElementById("video").srcObject), null);
  assert.deepEqual(errors, []);
  await context.close();
});

test("without a camera the page says so", async () => {
  const { page, context } = await open({ permissions: [] });
  await page.evaluate(() => {
    navigator.mediaDevices.getUserMedia = () =>
      Promise.reject(new DOMException("refused", "NotAllowedError"));
  });
  await page.getByRole("button", { name: "Start the camera" }).click();
  await page.getByRole("alert").filter({ hasText: "There is no camera" }).waitFor();
  await page.getByRole("button", { name: "Start the camera" }).waitFor();
  await context.close();
});
