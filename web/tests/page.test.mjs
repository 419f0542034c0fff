// The built page in headless Chromium: its answers against Python's, the keyboard, what a
// screen reader is told. Needs dist/ (npm run build), Chromium (CHROMIUM, or Debian's
// place) and PYTHON with emosynth_jax[export,predict] and scikit-image, which ships the
// image.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { sizeWithin } from "../src/images.js";
import { toGray, toSquare } from "../src/pixels.js";
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
  take,
} from "./browser.mjs";

const near = { box: 0.1, probability: 1e-3 };
let chrome;
let expected;

before(async () => {
  expected = askPython("page");
  chrome = await launch();
});

after(() => chrome?.close());

test("pixels are prepared as Python prepares them", () => {
  const { gray, sizes } = expected;
  const found = toGray({ data: gray.rgb, width: 47, height: 61 });
  assert.deepEqual(Array.from(found.data), gray.gray);
  for (const [shape, { from, to }] of Object.entries(sizes)) {
    const [height, width] = shape.split("x").map(Number);
    const { data } = toSquare({ data: from, width, height, channels: 1 }, 48);
    const differences = to.map((x, i) => Math.abs(x - data[i]));
    // Enlarging may round a half otherwise; shrinking may not.
    assert.ok(Math.max(...differences) <= (Math.min(width, height) < 47 ? 1 : 0), shape);
    assert.ok(differences.filter(Boolean).length < 0.01 * to.length, shape);
  }
});

test("an image is shrunk only as far as a canvas needs", () => {
  assert.deepEqual(sizeWithin(4000, 4000), [4000, 4000]);
  assert.deepEqual(sizeWithin(8000, 8000), [4000, 4000]);
  assert.deepEqual(sizeWithin(32768, 2), [16384, 1]);
});

test("answers equal Python's", async (t) => {
  const { page, requests, errors, context } = await open(chrome);
  for (const name of ["one.png", "two.png", "large.png"]) {
    await take(page, join(images, name));
    assertEqual(t, name, await answers(page), expected.answers[name], near);
  }
  await page.getByRole("checkbox", { name: "one cropped face" }).check();
  await take(page, join(images, "face.png"));
  await page.locator(".face canvas").waitFor();
  for (const name of ["face.png", "dim.png"]) {
    if (name !== "face.png") await take(page, join(images, name));
    assertEqual(t, name, await answers(page), expected.answers[name], near);
  }
  assert.deepEqual(errors, []);
  // Nothing leaves the machine, and nothing but the page's own files is fetched.
  for (const request of requests) {
    assert.match(request.url(), /^(http:\/\/127\.0\.0\.1:\d+\/|blob:|data:)/);
    assert.equal(request.method(), "GET");
  }
  await context.close();
});

test("every format is read as Python reads it", async (t) => {
  const { page, errors, context } = await open(chrome);
  for (const name of [
    "turned.jpg",
    "gray.png",
    "palette.png",
    "cmyk.jpg",
    "alpha.png",
    "holes.png",
  ]) {
    await take(page, join(images, name));
    const wanted = expected.answers[name];
    assert.equal(wanted.length, 1, `${name}: Python sees the face`);
    assertEqual(t, name, await answers(page), wanted, near);
  }
  assert.deepEqual(errors, []);
  await context.close();
});

test("21 megapixels are shrunk, and answered much as Python does", async (t) => {
  const { page, context } = await open(chrome);
  await take(page, join(images, "huge.jpg"));
  assert.deepEqual(
    await page.locator("#image").evaluate(({ width, height }) => [width, height]),
    [4000, 4000],
  );
  const found = await answers(page);
  found.forEach(({ box }) => {
    for (const side of Object.keys(box)) if (side !== "score") box[side] *= 4608 / 4000;
  });
  const wanted = expected.answers["huge.jpg"];
  assertEqual(t, "huge.jpg", found, wanted, { box: 2, probability: 0.005 });
  await context.close();
});

for (const [device, options] of [
  ["phone", phone],
  ["desktop", {}],
  ["dark", { colorScheme: "dark" }],
]) {
  test(`what is shown and told: ${device}`, async () => {
    const { page, context } = await open(chrome, options);
    const press = (locator) => (options.hasTouch ? locator.tap() : locator.click());
    await take(page, join(images, "two.png"));
    const told = await page.locator("#status").textContent();
    const [first] = expected.answers["two.png"];
    assert.match(told, new RegExp(`^2 faces\\. Face 1: ${first.label}, \\d+ %\\. Face 2:`));
    assert.match(
      await page.locator("#image").getAttribute("aria-label"),
      /^The image\. 2 faces/,
    );
    assert.equal(await page.getByRole("listitem").count(), 2);
    const button = page.getByRole("button", { name: "Show what mattered, face 1" });
    await press(button);
    const words = page.locator(".face .hint").first();
    await words.filter({ hasText: /ower/ }).waitFor();
    assert.equal(await button.getAttribute("aria-pressed"), "true");
    const reds = await page.locator(".face canvas").first().evaluate((canvas) => {
      const { data } = canvas
        .getContext("2d")
        .getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((x, i) => i % 4 === 0 && x > data[i + 1] + 50).length;
    });
    assert.ok(reds > 20, `${reds} pixels are marked`);
    const { width } = options.viewport ?? { width: 1280 };
    const over = await overflow(page, width);
    assert.ok(over <= 0, `the page is ${over} pixels too wide`);
    await page.screenshot({ path: join(shots, `${device}.png`), fullPage: true });
    await press(button);
    assert.equal(await button.getAttribute("aria-pressed"), "false");
    assert.equal(await words.textContent(), "");
    await context.close();
  });
}

test("the slider changes titles in place, and is told of when it is let go", async () => {
  const { page, context } = await open(chrome);
  await take(page, join(images, "two.png"));
  const told = await page.locator("#status").textContent();
  const button = page.getByRole("button", { name: "Show what mattered, face 2" });
  await button.click();
  await page.locator('.face button[aria-pressed="true"]').waitFor();
  const slider = page.locator("#confidence");
  await slider.evaluate((input) => {
    // Above every confidence, nothing is certain; the page's own end leaves these two.
    input.max = "100";
    input.value = "100";
    input.dispatchEvent(new Event("input"));
  });
  const titles = page.locator(".face h3").filter({ hasText: "uncertain" });
  assert.equal(await titles.count(), 2);
  assert.equal(await button.getAttribute("aria-pressed"), "true", "the map stays open");
  assert.equal(await page.locator("#status").textContent(), told);
  await slider.evaluate((input) => input.dispatchEvent(new Event("change")));
  assert.match(await page.locator("#status").textContent(), /uncertain, perhaps/);
  await context.close();
});

test("a slider that the browser has kept is what its label says", async () => {
  const { page, context } = await open(chrome);
  await page.evaluate(() => {
    document.getElementById("confidence").value = "75";
    window.dispatchEvent(new PageTransitionEvent("pageshow"));
  });
  assert.equal(await page.locator("#confidence-value").textContent(), "75 %");
  assert.equal(await page.locator("#confidence").getAttribute("aria-valuetext"), "75 %");
  await context.close();
});

test("everything is reached by keyboard, in the order of the page", async () => {
  const { page, context } = await open(chrome);
  await take(page, join(images, "one.png"));
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
  assert.deepEqual(reached, [
    "skip",
    "file",
    "camera",
    "network",
    "whole",
    "confidence",
    "Show what mattered",
  ]);
  // The focus stays on the button all the while, also while it computes.
  await page.locator(".face button").evaluate((button) => {
    window.seen = [];
    button.addEventListener("blur", () => window.seen.push("blur"));
    new MutationObserver(() =>
      window.seen.push(`busy ${button.getAttribute("aria-busy")}`),
    ).observe(button, { attributeFilter: ["aria-busy"] });
  });
  await page.keyboard.press("Enter");
  await page.locator('.face button[aria-pressed="true"]').waitFor();
  assert.deepEqual(await page.evaluate(() => window.seen), ["busy true", "busy false"]);
  await context.close();
});

test("what is no image leaves no answer; one is dropped; one has no face", async () => {
  const { page, context } = await open(chrome);
  await take(page, join(images, "one.png"));
  const blank = join(images, "blank.html");
  writeFileSync(blank, "<p>no image</p>");
  await page.getByLabel("Choose an image").setInputFiles(blank);
  const alert = page.getByRole("alert");
  await alert.filter({ hasText: "blank.html is no image" }).waitFor();
  assert.equal(await page.locator(".face").count(), 0);
  assert.equal(await page.locator("#image").isVisible(), false);
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

test("the page says which networks it has, and how good each is", async () => {
  const { page, context } = await open(chrome);
  const answer = await page.request.get(`${chrome.address}models/networks.json`);
  const networks = await answer.json();
  const choice = page.getByRole("combobox", { name: "Network" });
  assert.equal(await choice.isVisible(), networks.length > 1);
  for (const [i, about] of networks.entries()) {
    if (i) await choice.selectOption({ index: i });
    const known = `${about.network}, trained on ${about.data_set}`;
    const footer = page.locator("#about").filter({ hasText: known });
    await footer.waitFor();
    if (about.accuracy) {
      const share = `${(100 * about.accuracy.share).toFixed(1)} %`;
      assert.ok((await footer.textContent()).includes(share));
    }
    assert.equal(await page.locator("#card").isVisible(), about.card !== null);
    if (about.card) {
      const link = await page.locator("#card a").evaluate(({ href }) => href);
      assert.match(await (await page.request.get(link)).text(), /^# Model card/);
    }
  }
  await context.close();
});

test("another network answers as Python's does, and what it shows is its own", async (t) => {
  const { page, errors, context } = await open(chrome);
  await take(page, join(images, "two.png"));
  const before = await page.locator("#status").textContent();
  await page.getByRole("combobox", { name: "Network" }).selectOption({ index: 1 });
  await page.locator(".face").filter({ hasNotText: "contempt" }).first().waitFor();
  assertEqual(t, "two.png", await answers(page), expected.fer2013, near);
  assert.notEqual(await page.locator("#status").textContent(), before);
  await page.getByRole("button", { name: "Show what mattered, face 1" }).click();
  await page.locator('.face button[aria-pressed="true"]').waitFor();
  await page.getByRole("combobox", { name: "Network" }).selectOption({ index: 0 });
  await page.getByRole("status").filter({ hasText: before }).waitFor();
  assert.equal(await page.locator(".face").filter({ hasText: "contempt" }).count(), 2);
  assertEqual(t, "two.png", await answers(page), expected.answers["two.png"], near);
  assert.deepEqual(errors, []);
  await context.close();
});
