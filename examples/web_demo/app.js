// A lingxi classifier, exported with input="mediapipe", read by MediaPipe in this page.

const MODEL = "comments.tflite";
const MEDIAPIPE = "./mediapipe/text_bundle.mjs";
const WASM = "./mediapipe/wasm";
const PAUSE = 60; // milliseconds without a key before a text is read
const EXAMPLES = [
  "the cosiest stream on the whole site",
  "your mic is crackling again",
  "which brush is that?",
  "earn $900 a day from home",
];

const element = (id) => document.getElementById(id);
const percent = (score) => `${(100 * score).toFixed(1)} %`;

async function start() {
  const began = performance.now();
  const [classifier, size] = await load();
  const bars = new Map();
  // The labels are in the model, in the order of their numbers.
  const labels = categories(classifier, "").sort((a, b) => a.index - b.index);
  for (const { categoryName } of labels) {
    bars.set(categoryName, addBar(categoryName));
  }

  let waiting;
  element("text").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => show(classifier, bars), PAUSE);
  });
  for (const example of EXAMPLES) {
    addExample(example);
  }
  show(classifier, bars);
  element("size").textContent = `${(size / 1e6).toFixed(1)} MB`;
  element("start").textContent = `${((performance.now() - began) / 1000).toFixed(1)} s`;
  element("loading").hidden = true;
  element("demo").hidden = false;
  element("text").focus();
}

async function load() {
  const { FilesetResolver, TextClassifier } = await import(MEDIAPIPE).catch(() => {
    throw new Error(`MediaPipe is not at ${MEDIAPIPE}.`);
  });
  await expect(`${WASM}/text_wasm_internal.wasm`);
  const model = await download(MODEL);
  element("loading-text").textContent = "Starting …";
  const classifier = await TextClassifier.createFromModelBuffer(
    await FilesetResolver.forTextTasks(WASM),
    model,
  );
  return [classifier, model.length];
}

async function expect(path, method = "HEAD") {
  const answer = await fetch(path, { method });
  if (!answer.ok) {
    throw new Error(`The server has no ${path} (${answer.status} ${answer.statusText}).`);
  }
  return answer;
}

async function download(path) {
  const answer = await expect(path, "GET");
  const total = Number(answer.headers.get("Content-Length"));
  const parts = [];
  let received = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) {
      return new Uint8Array(await new Blob(parts).arrayBuffer());
    }
    parts.push(value);
    received += value.length;
    if (total) {
      element("loading-bar").value = received / total;
    }
  }
}

function categories(classifier, text) {
  return classifier.classify(text).classifications[0].categories; // the most probable first
}

function show(classifier, bars) {
  const text = element("text").value;
  const before = performance.now();
  const found = categories(classifier, text);
  const latency = performance.now() - before;

  const isIdle = !text.trim();
  element("demo").classList.toggle("idle", isIdle);
  element("demo").dataset.text = text; // what the answer below belongs to
  element("label").textContent = isIdle ? "…" : found[0].categoryName;
  element("score").textContent = isIdle ? "" : percent(found[0].score);
  for (const { categoryName, score } of found) {
    const { item, bar, number } = bars.get(categoryName);
    item.classList.toggle("best", !isIdle && categoryName === found[0].categoryName);
    item.dataset.score = score;
    bar.style.width = isIdle ? 0 : percent(score).replace(" ", "");
    number.textContent = isIdle ? "" : percent(score);
  }
  element("latency").textContent = isIdle ? "–" : `${latency.toFixed(0)} ms`;
}

function addBar(name) {
  const [item, title, number, track, bar] = ["li", "span", "span", "div", "div"].map((tag) =>
    document.createElement(tag),
  );
  title.className = "name";
  title.textContent = name;
  number.className = "percent";
  track.className = "track";
  bar.className = "bar";
  track.append(bar);
  item.append(title, number, track);
  item.dataset.label = name;
  element("bars").append(item);
  return { item, bar, number };
}

function addExample(text) {
  const button = document.createElement("button");
  button.textContent = text;
  button.addEventListener("click", () => {
    element("text").value = text;
    element("text").dispatchEvent(new Event("input"));
    element("text").focus();
  });
  element("examples").append(button);
}

start().catch((error) => {
  element("loading").hidden = true;
  element("error").hidden = false;
  element("error").textContent =
    `${error.message ?? error}\n\nexamples/web_demo/make.py puts together what this page needs.`;
});
