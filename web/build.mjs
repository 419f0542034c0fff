// npm run build: the whole page in dist/, with its models and runtime.
// PYTHON names an interpreter that has emosynth_jax[export,predict];
// NETWORK a bundle or a run's folder instead of the network that ships with it.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "dist");

function python() {
  if (process.env.PYTHON) return process.env.PYTHON;
  const own = join(here, "..", ".venv", "bin", "python");
  return existsSync(own) ? own : "python3";
}

rmSync(dist, { recursive: true, force: true });
mkdirSync(join(dist, "runtime"), { recursive: true });
await build({
  entryPoints: [join(here, "src/main.js"), join(here, "src/worker.js")],
  bundle: true,
  format: "esm",
  // The runtime without WebGPU and WebGL: half the size, the same on every machine.
  conditions: ["onnxruntime-web-use-extern-wasm"],
  minify: true,
  outdir: dist,
  target: "es2022",
});
for (const file of ["index.html", "style.css"]) {
  cpSync(join(here, "src", file), join(dist, file));
}
for (const kind of ["mjs", "wasm"]) {
  const file = `ort-wasm-simd-threaded.${kind}`;
  cpSync(
    join(here, "node_modules/onnxruntime-web/dist", file),
    join(dist, "runtime", file),
  );
}
const network = process.env.NETWORK ? [process.env.NETWORK] : [];
try {
  execFileSync(
    python(),
    [join(here, "prepare_models.py"), join(dist, "models"), ...network],
    {
      stdio: "inherit",
      env: { ...process.env, PYTHONPATH: join(here, "..") },
    },
  );
} catch {
  console.error(
    `error: ${python()} could not write the models; PYTHON names an interpreter ` +
      "with emosynth_jax[export,predict]",
  );
  process.exit(1);
}
console.log(`${dist} is ready; npm start serves it on this machine.`);
