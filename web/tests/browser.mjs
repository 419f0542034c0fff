// What the tests of the page share: Python's answers, the page's server, Chromium.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { serve } from "../serve.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const own = join(here, "../../.venv/bin/python");
const python = process.env.PYTHON ?? (existsSync(own) ? own : "python3");

export const images = mkdtempSync(join(tmpdir(), "images-"));
export const shots = join(here, "../screenshots");
mkdirSync(shots, { recursive: true });

/** Makes the images of a part of the tests ("page", "camera"); what Python says. */
export function askPython(part) {
  const printed = execFileSync(python, [join(here, "expected.py"), images, part], {
    env: { ...process.env, PYTHONPATH: join(here, "../..") },
    maxBuffer: 2 ** 27,
    stdio: ["ignore", "pipe", "inherit"],
  });
  return JSON.parse(printed);
}

export async function launch(...flags) {
  const server = await serve(0);
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--no-first-run",
      "--use-fake-ui-for-media-stream",
      ...flags,
    ],
  });
  return {
    browser,
    address: `http://127.0.0.1:${server.address().port}/`,
    close: async () => {
      await browser.close();
      server.close();
    },
  };
}

/** A page that is ready, and every address that it asked for. */
export async function open({ browser, address }, options = {}) {
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

/** An Android phone, as Chromium emulates one. */
export const phone = {
  viewport: { width: 360, height: 780 },
  deviceScaleFactor: 3,
  isMobile: true,
  hasTouch: true,
};

export async function take(page, file) {
  await page.getByLabel("Choose an image").setInputFiles(file);
  await page
    .getByRole("status")
    .filter({ hasText: /face/i })
    .filter({ hasNotText: "Looking" })
    .waitFor();
}

export function answers(page) {
  return page.locator(".face").evaluateAll((cards) =>
    cards.map(({ dataset }) => ({
      box: JSON.parse(dataset.box),
      probabilities: JSON.parse(dataset.probabilities),
    })),
  );
}

/** Fails unless the page's faces are Python's, within the tolerances; says how near. */
export function assertEqual(t, name, found, wanted, tolerance) {
  assert.equal(found.length, wanted.length, `${name}: faces`);
  const largest = { box: 0, probability: 0 };
  wanted.forEach((face, i) => {
    const { box, probabilities } = found[i];
    if (face.box === null) assert.equal(box, null, name);
    else {
      ["left", "top", "right", "bottom"].forEach((side, k) => {
        largest.box = Math.max(largest.box, Math.abs(box[side] - face.box[k]));
      });
    }
    Object.values(face.probabilities).forEach((p, k) => {
      const difference = Math.abs(p - probabilities[k]);
      largest.probability = Math.max(largest.probability, difference);
    });
  });
  const text = `${name} differs at most by ${JSON.stringify(largest)}`;
  t.diagnostic(text);
  assert.ok(largest.box < (tolerance.box ?? 1), text);
  assert.ok(largest.probability < tolerance.probability, text);
}

/** How many pixels run over the page's right side. */
export function overflow(page, width) {
  return page.evaluate((w) => document.documentElement.scrollWidth - w, width);
}
