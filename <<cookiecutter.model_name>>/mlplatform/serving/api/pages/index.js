"use strict";
const at = (id) => document.getElementById(id);

function fact(name, value) {
  const row = at("facts").insertRow();
  const head = document.createElement("th");
  head.textContent = name;
  row.append(head);
  row.insertCell().textContent = value;
}

function tensors(list) {
  return list.map((t) => `${t.name}: ${t.dtype} [${t.shape.map((s) => s ?? "any").join(", ")}]`).join("; ");
}

function measure(value) {
  // A number, or an interval; what is larger stands below, whole.
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : value.toPrecision(4);
  const { low, high } = value ?? {};
  return typeof low === "number" && typeof high === "number" ? `${measure(low)} to ${measure(high)}` : "";
}

function draw(instance) {
  // A sample whose only input is a matrix of numbers is shown as a picture.
  const value = typeof instance === "object" && !Array.isArray(instance) ? Object.values(instance)[0] : instance;
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

function fill(instance) {
  at("request").value = JSON.stringify({ instances: [instance] }, null, 1).replace(/\n\s+(?=[-\d\]])/g, " ");
  draw(instance);
  at("bars").replaceChildren();
  at("answer").hidden = true;
}

function bars(row, labels) {
  at("bars").replaceChildren();
  if (!Array.isArray(row) || !labels || row.length !== labels.length) return;
  const best = row.map((p, i) => [p, labels[i]]).sort((a, b) => b[0] - a[0]).slice(0, 10);
  for (const [probability, label] of best) {
    const line = document.createElement("div");
    line.className = "row";
    const name = document.createElement("span");
    name.textContent = label;
    const bar = document.createElement("span");
    bar.className = "bar";
    const part = document.createElement("i");
    part.style.width = `${100 * probability}%`;
    bar.append(part);
    const number = document.createElement("span");
    number.textContent = `${(100 * probability).toFixed(1)} %`;
    line.append(name, bar, number);
    at("bars").append(line);
  }
}

async function predict(served) {
  const start = performance.now();
  const response = await fetch(served.paths.predict, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: at("request").value,
  });
  const text = await response.text();
  at("took").textContent = `${response.status} in ${(performance.now() - start).toFixed(1)} ms`;
  at("answer").textContent = text;
  at("answer").hidden = false;
  bars(response.ok ? JSON.parse(text).predictions?.[0] : null, served.model.labels);
}

async function show() {
  const served = await (await fetch("/", { headers: { Accept: "application/json" } })).json();
  document.title = served.name;
  at("name").textContent = served.name;
  at("state").textContent = served.ready ? "ready" : "not ready";
  at("state").classList.toggle("not", !served.ready);
  at("reason").hidden = served.ready;
  at("reason").textContent = served.reason ?? "";
  fact("up for", `${served.uptime_seconds} s`);
  if (served.template) fact("made from", `ml-service-template ${served.template}`);
  const model = served.model;
  if (!model) { setTimeout(() => location.reload(), 2000); return; }
  fact("version", `${model.version}, trained ${model.created_at}`);
  fact("runtime", model.runtime);
  fact("takes", tensors(model.signature.inputs));
  fact("gives", tensors(model.signature.outputs));
  if (model.labels) fact("labels", model.labels.join(", "));
  for (const [name, value] of Object.entries(model.metrics ?? {})) {
    const text = measure(value);
    if (text) fact(name.replaceAll("_", " "), text);
    else at("all").hidden = false;
  }
  at("metrics").textContent = JSON.stringify(model.metrics, null, 1);
  at("try").hidden = false;
  (model.samples ?? []).forEach((sample, i) => {
    const button = document.createElement("button");
    button.textContent = `Sample ${i + 1}${sample.label === undefined ? "" : ` (${sample.label})`}`;
    button.onclick = () => fill(sample.instance);
    at("samples").append(button);
  });
  if (model.samples?.length) fill(model.samples[0].instance);
  at("predict").onclick = () => predict(served);
}
show();
