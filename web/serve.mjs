// Serves dist/ on this machine: browsers give no camera and no modules to files.
import { createReadStream, realpathSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, extname, join, normalize, sep } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "dist");
const types = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".json": "application/json",
  ".mjs": "text/javascript",
  ".onnx": "application/octet-stream",
  ".txt": "text/plain; charset=utf-8",
  ".wasm": "application/wasm",
};

/** The file that an address asks for; null for an address that can be none. */
function fileOf(address) {
  try {
    const path = decodeURIComponent(address.split(/[?#]/)[0]);
    if (!path.startsWith("/") || path.includes("\0")) return null;
    return join(root, normalize(path.endsWith("/") ? `${path}index.html` : path));
  } catch {
    return null; // A "%" that begins no character.
  }
}

function isServed(file) {
  try {
    return file.startsWith(root + sep) && statSync(file).isFile();
  } catch {
    return false;
  }
}

function answer(request, response) {
  const file = fileOf(request.url);
  if (file === null) {
    response.writeHead(400).end();
    return;
  }
  if (!isServed(file)) {
    response.writeHead(404).end();
    return;
  }
  const stream = createReadStream(file);
  stream.on("open", () => {
    const type = types[extname(file)] ?? "application/octet-stream";
    response.writeHead(200, { "content-type": type });
    stream.pipe(response);
  });
  // Gone since, or not to be read.
  stream.on("error", () => {
    if (response.headersSent) response.destroy();
    else response.writeHead(404).end();
  });
}

/** A server on a port of this machine, any free one for 0. */
export function serve(port) {
  const server = createServer(answer);
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}

function explain(error, port) {
  if (error.code === "EADDRINUSE") {
    return `port ${port} is taken; PORT names another, as in PORT=8001 npm start`;
  }
  if (error.code === "ERR_SOCKET_BAD_PORT") {
    return `PORT: expected a number from 0 to 65535, got ${process.env.PORT}`;
  }
  return error.message;
}

if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const port = Number(process.env.PORT ?? 8000);
  try {
    if (!isServed(join(root, "index.html"))) {
      throw new Error(`there is no page in ${root}: npm run build writes it`);
    }
    const server = await serve(port);
    console.log(`http://127.0.0.1:${server.address().port}/`);
  } catch (error) {
    console.error(`error: ${explain(error, port)}`);
    process.exit(1);
  }
}
