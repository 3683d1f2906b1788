import { at, bytes, duration, make, number, percent, whenReady } from "/pages/common.js";

// Metrics that people say in per cent.
const SHARES = /(accuracy|precision|recall|f1)$/;
const COUNTS = ["bytes", "examples", "correct", "invalid", "export_difference"];
const MOST_TILES = 4;

function tile(name, value) {
  const box = make("div", "", at("figures"));
  make("dt", name, box);
  make("dd", value, box);
}

function measure(name, value) {
  return SHARES.test(name) && value >= 0 && value <= 1 ? percent(value) : number(value);
}

// A file of this input, to be sent in base64.
function upload(input) {
  const label = make("label", `${input.name} (${input.media_type}) `, at("files"));
  const choice = make("input", "", label, { type: "file" });
  if (!input.media_type.startsWith("application/")) choice.accept = input.media_type;
  choice.onchange = async () => {
    if (!choice.files.length) return;
    const reader = new FileReader();
    await new Promise((resolve) => { reader.onload = resolve; reader.readAsDataURL(choice.files[0]); });
    let request;
    try {
      request = JSON.parse(at("request").value);
    } catch {
      request = {};
    }
    const instance = { ...request.instances?.[0], [input.name]: { b64: reader.result.split(",")[1] } };
    fill({ instance }, null);
  };
}

function photo(value, inputs) {
  const kind = inputs.find((input) => input.media_type?.startsWith("image/") && value?.[input.name]?.b64);
  at("photo").hidden = !kind;
  if (kind) at("photo").src = `data:${kind.media_type};base64,${value[kind.name].b64}`;
}

let inputs = [];

function draw(instance) {
  photo(instance, inputs);
  // A sample whose only input is a matrix of numbers is shown as a picture, unless it is a list of any length.
  const values = typeof instance === "object" && !Array.isArray(instance) ? Object.values(instance) : [instance];
  const value = values.length === 1 && !inputs[0]?.length ? values[0] : null;
  const canvas = at("picture");
  canvas.hidden = !(Array.isArray(value) && value.length > 3 && Array.isArray(value[0]) && typeof value[0][0] === "number");
  if (canvas.hidden) return;
  const most = Math.max(1e-9, ...value.flat());
  canvas.width = value[0].length;
  canvas.height = value.length;
  const context = canvas.getContext("2d");
  value.forEach((row, y) => row.forEach((v, x) => {
    context.fillStyle = `hsl(0 0% ${Math.round(100 - (100 * v) / most)}%)`;
    context.fillRect(x, y, 1, 1);
  }));
}

function fill(sample, button) {
  at("request").value = JSON.stringify({ instances: [sample.instance] }, null, 1).replace(/\n\s+(?=[-\d\]])/g, " ");
  draw(sample.instance);
  for (const other of at("samples").children) other.setAttribute("aria-pressed", String(other === button));
  at("took").textContent = "The answer comes here.";
  at("values").replaceChildren();
  at("whole").hidden = true;
}

// The tags whose probability has reached their threshold.
function tags(row, labels, thresholds) {
  const said = labels.filter((_, i) => row[i] >= thresholds[i]);
  make("p", said.join(", ") || "no tag", at("values"), { class: "figure" });
}

function bars(row, labels) {
  const best = row.map((p, i) => [p, labels[i]]).sort((a, b) => b[0] - a[0]).slice(0, 10);
  for (const [probability, label] of best) {
    const line = make("div", "", at("values"), { class: "row" });
    make("span", label, line);
    const bar = make("span", "", line, { class: "bar", "aria-hidden": "true" });
    make("i", "", bar).style.width = `${100 * probability}%`;
    make("span", percent(probability), line);
  }
}

// A vector: its length and first values.
function vector(values) {
  const length = Math.hypot(...values);
  const line = make("p", `${values.length} values`, at("values"), { class: "figure" });
  const first = values.slice(0, 8).map(number).join(", ");
  make("span", ` of length ${number(length)}: ${first}${values.length > 8 ? ", …" : ""}`, line, { class: "note" });
}

// The labels of a model, of several targets by their names.
function labelled(labels) {
  if (Array.isArray(labels)) return labels.join(", ");
  return Object.entries(labels).map(([name, of]) => `${name}: ${of.join(", ")}`).join("; ");
}

// A truth: a label, a value, tags, or of several targets each by its name.
function inWords(truth) {
  if (Array.isArray(truth)) return truth.join(", ") || "no tag";
  if (truth === null || typeof truth !== "object") return truth;
  return Object.entries(truth).map(([name, one]) => `${name} ${inWords(one)}`).join(", ");
}

// What a model gives for one row, by output: tags, probabilities of labels as bars, one value as a figure, a vector by its length.
function show(row, model) {
  const outputs = model.signature.outputs;
  const values = outputs.length === 1 ? [row] : outputs.map((output) => row?.[output.name]);
  outputs.forEach((output, i) => {
    const value = values[i];
    const target = model.targets?.find((one) => one.name === output.name);
    const labels = outputs.length === 1 ? model.labels : model.labels?.[output.name];
    if (Array.isArray(value) && labels?.length === value.length && value.every((v) => typeof v === "number")) {
      if (outputs.length > 1) make("h3", output.name, at("values"));
      if (target?.thresholds?.length) tags(value, labels, target.thresholds);
      bars(value, labels);
    } else if (target?.kind === "vector" && Array.isArray(value)) {
      vector(value);
    } else if (value !== null && typeof value !== "object" && value !== undefined) {
      const line = make("p", "", at("values"), { class: "figure" });
      line.textContent = typeof value === "number" ? number(value) : String(value);
      const unit = target?.unit;
      make("span", unit ? ` ${unit} ${output.name}` : ` ${output.name}`, line, { class: "note" });
    }
  });
}

async function predict(served) {
  const start = performance.now();
  let response, text;
  try {
    response = await fetch(served.paths.predict, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: at("request").value,
    });
    text = await response.text();
  } catch {
    at("took").textContent = "The server does not answer.";
    return;
  }
  at("values").replaceChildren();
  at("answer").textContent = text;
  at("whole").hidden = false;
  at("took").textContent = `${response.status} in ${(performance.now() - start).toFixed(1)} ms`;
  if (response.ok) show(JSON.parse(text).predictions?.[0], served.model);
  else make("p", JSON.parse(text).error ?? text, at("values"), { class: "bad" });
}

function tensors(model) {
  const body = at("tensors").tBodies[0];
  for (const [side, list] of [["takes", model.signature.inputs], ["gives", model.signature.outputs]]) {
    for (const tensor of list) {
      const row = body.insertRow();
      const anyLength = tensor.length ? `${tensor.length.least} to ${tensor.length.most}` : "any";
      const sizes = tensor.shape.slice(1).map((size) => size ?? anyLength);
      make("th", side, row);
      make("code", tensor.name, row.insertCell());
      const optional = tensor.nullable || tensor.missing !== undefined;
      row.insertCell().textContent = optional ? `${tensor.dtype}; left out or null if missing`
        : tensor.media_type ? `${tensor.media_type}, as {"b64": …}` : tensor.dtype;
      row.insertCell().textContent = sizes.length ? sizes.join(" × ") : "one value";
    }
  }
}

// What says how good a model is, in words.
function judgements(metrics, before) {
  const single = Object.entries(metrics).filter(([name, value]) => typeof value === "number" && !COUNTS.includes(name));
  return single.map(([name, value]) => [before + name.replaceAll("_", " "), measure(name, value)]);
}

function figures(served) {
  const model = served.model;
  const targets = Object.entries(model.metrics?.targets ?? {});
  // Of several targets the first figure of each.
  const judged = targets.length ? targets.flatMap(([name, own]) => judgements(own, `${name}: `).slice(0, 1))
    : judgements(model.metrics ?? {}, "");
  for (const [text, value] of judged.slice(0, MOST_TILES)) tile(text, value);
  if (model.metrics?.examples) tile("test examples", number(model.metrics.examples));
  const alone = model.metrics?.inference_ms?.["1"];
  if (alone) tile("one prediction", `${number(Number(alone.toPrecision(2)))} ms`);
  tile("size", bytes(model.bytes));
  tile("age", duration((Date.now() - Date.parse(model.created_at)) / 1000));
  tile("runtime", model.runtime);
  tile("up for", duration(served.uptime_seconds));
}

async function ready(served) {
  const model = served.model;
  document.title = served.name;
  at("name").textContent = served.name;
  at("description").textContent = served.description ?? "";
  at("version").textContent = ` · version ${model.version}`;
  if (served.template) at("template").textContent = ` · made from ml-service-template ${served.template}`;
  figures(served);
  tensors(model);
  if (model.labels) at("labels").textContent = `Labels: ${labelled(model.labels)}`;
  at("metrics").textContent = JSON.stringify(model.metrics, null, 1);
  inputs = model.signature.inputs;
  for (const input of inputs) if (input.media_type && input.shape.length === 1) upload(input);
  (model.samples ?? []).forEach((sample, i) => {
    const truth = inWords(sample.label);
    const text = `Sample ${i + 1}${truth === undefined ? "" : ` (${truth})`}`;
    const button = make("button", text, at("samples"), { type: "button", "aria-pressed": "false" });
    button.onclick = () => fill(sample, button);
  });
  at("samples").firstElementChild?.click();
  at("form").onsubmit = (event) => {
    event.preventDefault();
    predict(served);
  };
  at("request").onkeydown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("form").requestSubmit();
  };
  at("try").hidden = at("about").hidden = false;
}

whenReady(ready);
