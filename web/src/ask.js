// The page's side of the worker: a question, and the promise of its answer.

const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
let nextId = 0;

export function ask(kind, payload, transfer = []) {
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
