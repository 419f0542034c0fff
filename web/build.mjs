// npm run build: the whole page in dist/, with its models and runtime.
// PYTHON names an interpreter that has emosynth_jax[export,predict];
// NETWORK a bundle, a run's folder or an included network instead of all included ones.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "dist");
// A build that fails leaves the last one as it is.
const made = join(here, "dist-unfinished");

function python() {
  if (process.env.PYTHON) return process.env.PYTHON;
  const own = join(here, "..", ".venv", "bin", "python");
  return existsSync(own) ? own : "python3";
}

function fail(message) {
  rmSync(made, { recursive: true, force: true });
  if (message) console.error(`error: ${message}`);
  process.exit(1);
}

function writeModels() {
  const network = process.env.NETWORK ? [process.env.NETWORK] : [];
  const script = join(here, "prepare_models.py");
  const { error, status } = spawnSync(
    python(),
    [script, join(made, "models"), ...network],
    {
      stdio: "inherit",
      env: { ...process.env, PYTHONPATH: join(here, "..") },
    },
  );
  if (error) {
    fail(
      `${python()} can't be run (${error.code}); PYTHON names an interpreter with ` +
        "emosynth_jax[export,predict]",
    );
  }
  if (status !== 0) fail(); // Python has said why.
}

rmSync(made, { recursive: true, force: true });
mkdirSync(join(made, "runtime"), { recursive: true });
writeModels();
await build({
  entryPoints: [join(here, "src/main.js"), join(here, "src/worker.js")],
  bundle: true,
  format: "esm",
  // The runtime without WebGPU and WebGL: half the size, the same on every machine.
  conditions: ["onnxruntime-web-use-extern-wasm"],
  minify: true,
  outdir: made,
  target: "es2022",
}).catch(() => fail()); // esbuild has said why.
for (const file of ["index.html", "style.css"]) {
  cpSync(join(here, "src", file), join(made, file));
}
for (const kind of ["mjs", "wasm"]) {
  const file = `ort-wasm-simd-threaded.${kind}`;
  cpSync(
    join(here, "node_modules/onnxruntime-web/dist", file),
    join(made, "runtime", file),
  );
}
rmSync(dist, { recursive: true, force: true });
renameSync(made, dist);
console.log(`${dist} is ready; npm start serves it on this machine.`);
