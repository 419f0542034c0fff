// npm start's server, and what npm run build says of a network that isn't there.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { request } from "node:http";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { serve } from "../serve.mjs";

const web = join(dirname(fileURLToPath(import.meta.url)), "..");
let server;

before(async () => {
  server = await serve(0);
});

after(() => server.close());

/** The status of an address as it is written, which fetch would tidy up. */
function ask(path) {
  const { port } = server.address();
  return new Promise((resolve, reject) => {
    request({ host: "127.0.0.1", port, path, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .on("error", reject)
      .end();
  });
}

for (const [path, status] of [
  ["/", 200],
  ["/index.html?x=%", 200],
  ["/%", 400],
  ["/%00", 400],
  ["/%ff", 400],
  ["//", 200],
  ["/nothing", 404],
  ["/models", 404],
  ["/../package.json", 404],
  ["/%2e%2e/package.json", 404],
  [`/${"x".repeat(5000)}`, 404],
]) {
  test(`GET ${path.slice(0, 30)} is ${status}, and the server lives`, async () => {
    assert.equal(await ask(path), status);
    assert.equal(await ask("/"), 200);
  });
}

function start(port) {
  return spawnSync(process.execPath, [join(web, "serve.mjs")], {
    env: { ...process.env, PORT: port },
    encoding: "utf8",
    timeout: 20_000,
  });
}

test("a port that is taken, or none, is one line", () => {
  const { port } = server.address();
  const { status, stderr } = start(String(port));
  assert.equal(status, 1);
  assert.match(stderr, new RegExp(`^error: port ${port} is taken; PORT names another.*\n$`));
  assert.match(start("door").stderr, /^error: PORT: expected a number.* got door\n$/);
});

test("a network that isn't there is one line, and the last build stays", () => {
  const { status, stderr } = spawnSync(process.execPath, [join(web, "build.mjs")], {
    env: { ...process.env, NETWORK: "typo" },
    encoding: "utf8",
    timeout: 200_000,
  });
  assert.equal(status, 1);
  assert.match(stderr, /error: expected the folder of a trained run.* got 'typo'\n$/);
  assert.doesNotMatch(stderr, /Traceback|PYTHON/);
  assert.ok(existsSync(join(web, "dist/index.html")));
  assert.ok(!existsSync(join(web, "dist-unfinished")));
});

test("an interpreter that isn't there is one line", () => {
  const { status, stderr } = spawnSync(process.execPath, [join(web, "build.mjs")], {
    env: { ...process.env, PYTHON: "/nowhere/python" },
    encoding: "utf8",
  });
  assert.equal(status, 1);
  assert.match(stderr, /^error: \/nowhere\/python can't be run \(ENOENT\); PYTHON names.*\n$/);
});
