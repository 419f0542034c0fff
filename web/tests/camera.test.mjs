// The page's camera in headless Chromium, whose camera is a film of one face; see
// page.test.mjs for what is needed.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import {
  answers,
  askPython,
  assertEqual,
  launch,
  open,
  overflow,
  phone,
  images,
  shots,
} from "./browser.mjs";

let chrome;
let expected;

before(async () => {
  expected = askPython("camera").answers["camera.png"];
  chrome = await launch(
    "--use-fake-device-for-media-stream",
    `--use-file-for-fake-video-capture=${join(images, "camera.y4m")}`,
  );
});

after(() => chrome?.close());

async function start(options) {
  const opened = await open(chrome, options);
  await opened.page.getByRole("button", { name: "Start the camera" }).click();
  await opened.page.locator(".face").waitFor();
  return opened;
}

/** How often what is shown has been replaced, from now on. */
function countChanges(page) {
  return page.evaluate(() => {
    window.changes = { canvas: 0, cards: 0 };
    const canvas = document.getElementById("image");
    new MutationObserver(() => (window.changes.canvas += 1)).observe(canvas, {
      attributeFilter: ["width"],
    });
    new MutationObserver(() => (window.changes.cards += 1)).observe(
      document.getElementById("faces"),
      { childList: true, subtree: true, attributeFilter: ["data-box"] },
    );
  });
}

const changes = (page) => page.evaluate(() => window.changes);
const waitForChange = (page) => page.waitForFunction(() => window.changes.canvas > 1);

test("the camera's face is answered as Python answers its image", async (t) => {
  const { page, errors, context } = await start();
  const found = await answers(page);
  assert.equal(expected.length, 1);
  // The stream rounds each pixel to its own scale, and halves the colors' resolution.
  // A film has 219 levels where the image has 255, and equalization spreads what
  // falls together.
  assertEqual(t, "camera", found, expected, { box: 0.5, probability: 0.05 });
  const best = found[0].probabilities.indexOf(Math.max(...found[0].probabilities));
  assert.equal(Object.keys(expected[0].probabilities)[best], expected[0].label);
  // Only what is found is told, not numbers that change with each frame.
  assert.equal(
    await page.locator("#status").textContent(),
    `One face. Face 1: ${expected[0].label}.`,
  );
  const stop = page.getByRole("button", { name: "Stop the camera" });
  assert.equal(await stop.getAttribute("aria-pressed"), null);
  await page.screenshot({ path: join(shots, "camera.png"), fullPage: true });
  await stop.click();
  await page.getByRole("status").filter({ hasText: "The camera is off" }).waitFor();
  assert.equal(await page.evaluate(() => document.getElementById("video").srcObject), null);
  assert.equal(await page.locator("#stage").isVisible(), false, "nobody stays to be seen");
  assert.deepEqual(errors, []);
  await context.close();
});

test("an answer that stays the same is told once", async () => {
  const { page, context } = await start();
  await page.evaluate(() => {
    window.told = 0;
    const options = { childList: true, characterData: true, subtree: true };
    new MutationObserver(() => (window.told += 1)).observe(
      document.getElementById("status"),
      options,
    );
  });
  await page.waitForTimeout(4000); // Longer than what is told may be apart.
  assert.equal(await page.evaluate(() => window.told), 0);
  await context.close();
});

for (const [device, options] of [
  ["phone", phone],
  ["desktop", {}],
]) {
  test(`image and cards stand still together, and go on: ${device}`, async () => {
    const { page, errors, context } = await start(options);
    await countChanges(page);
    await waitForChange(page);
    const button = page.getByRole("button", { name: "Show what mattered, face 1" });
    await (options.hasTouch ? button.tap() : button.click());
    const goOn = page.getByRole("button", { name: "Paused – continue" });
    await goOn.waitFor();
    await countChanges(page);
    await page.locator('.face button[aria-pressed="true"]').waitFor();
    await page.waitForTimeout(1500);
    const still = await changes(page);
    assert.equal(still.canvas, 0);
    assert.match(await page.locator("#status").textContent(), /^Paused\. One face\./);
    assert.ok((await overflow(page, options.viewport?.width ?? 1280)) <= 0);
    assert.ok(await goOn.isVisible());
    await page.screenshot({ path: join(shots, `paused-${device}.png`), fullPage: true });
    if (options.hasTouch) {
      await page.screenshot({ path: join(shots, "paused-in-view.png") });
    }
    await countChanges(page);
    await (options.hasTouch ? goOn.tap() : goOn.click());
    await waitForChange(page);
    assert.equal(await button.getAttribute("aria-pressed"), "false");
    await page.getByRole("button", { name: "Pause", exact: true }).waitFor();
    assert.deepEqual(errors, []);
    await context.close();
  });
}

test("the keyboard's focus on a face's button pauses, too", async () => {
  const { page, context } = await start();
  await page.locator(".face button").focus();
  await page.getByRole("button", { name: "Paused – continue" }).waitFor();
  const boxes = await answers(page);
  await page.waitForTimeout(1000);
  assert.deepEqual(await answers(page), boxes);
  await context.close();
});

test("a hidden page has no camera", async () => {
  const { page, context } = await start();
  await page.getByRole("button", { name: "Pause" }).focus();
  await page.evaluate(() => {
    window.track = document.getElementById("video").srcObject.getTracks()[0];
    Object.defineProperty(document, "visibilityState", { get: () => "hidden" });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await page.getByRole("status").filter({ hasText: "while the page was hidden" }).waitFor();
  assert.equal(await page.evaluate(() => window.track.readyState), "ended");
  const focused = await page.evaluate(() => document.activeElement.id);
  assert.equal(focused, "camera", "the focus isn't lost with the button");
  await context.close();
});

test("a camera that ends by itself is told of", async () => {
  const { page, context } = await start();
  await page.evaluate(() => {
    const [track] = document.getElementById("video").srcObject.getTracks();
    track.dispatchEvent(new Event("ended"));
  });
  await page.getByRole("status").filter({ hasText: "The camera is gone" }).waitFor();
  await page.getByRole("button", { name: "Start the camera" }).waitFor();
  await context.close();
});

test("with several cameras there is a choice", async (t) => {
  const two = await launch("--use-fake-device-for-media-stream=device-count=2");
  t.after(two.close);
  const { page, errors, context } = await open(two, phone);
  const choice = page.getByLabel("Camera", { exact: true });
  assert.equal(await choice.isVisible(), false);
  await page.getByRole("button", { name: "Start the camera" }).tap();
  await choice.waitFor();
  const names = await choice.locator("option").allTextContents();
  assert.equal(names.length, 2);
  const now = () =>
    page.evaluate(
      () => document.getElementById("video").srcObject?.getVideoTracks()[0].label,
    );
  assert.equal(await now(), names[0]);
  await choice.selectOption(names[1]);
  await page.waitForFunction(
    (name) =>
      document.getElementById("video").srcObject?.getVideoTracks()[0].label === name,
    names[1],
  );
  await page.getByRole("button", { name: "Stop the camera" }).waitFor();
  assert.ok((await overflow(page, 360)) <= 0);
  await page.screenshot({ path: join(shots, "two-cameras.png") });
  await page.getByRole("button", { name: "Stop the camera" }).tap();
  assert.equal(await choice.isVisible(), false);
  assert.deepEqual(errors, []);
  await context.close();
});

test("without a camera the page says so", async () => {
  const { page, context } = await open(chrome, { permissions: [] });
  await page.evaluate(() => {
    navigator.mediaDevices.getUserMedia = () =>
      Promise.reject(new DOMException("refused", "NotAllowedError"));
  });
  await page.getByRole("button", { name: "Start the camera" }).click();
  await page.getByRole("alert").filter({ hasText: "allow it" }).waitFor();
  await page.getByRole("button", { name: "Start the camera" }).waitFor();
  await context.close();
});
