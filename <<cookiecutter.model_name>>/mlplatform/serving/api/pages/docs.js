"use strict";
const make = (tag, text, parent) => {
  const element = document.createElement(tag);
  element.textContent = text;
  parent?.append(element);
  return element;
};

function route(method, path, operation, parent) {
  const box = make("details", "", parent);
  const head = make("summary", "", box);
  make("span", method.toUpperCase(), head).className = "method";
  make("code", path, head);
  make("span", ` ${operation.summary}`, head);
  const table = make("table", "", box);
  for (const [status, response] of Object.entries(operation.responses)) {
    const row = table.insertRow();
    make("th", status, row);
    row.insertCell().textContent = response.description;
  }
  const media = operation.requestBody?.content["application/json"];
  let body;
  if (media) {
    make("h2", "Request", box);
    body = make("textarea", media.example ? JSON.stringify(media.example) : "{}", box);
    body.setAttribute("aria-label", `request of ${path}`);
  }
  const values = {};
  for (const parameter of operation.parameters ?? []) values[parameter.name] = parameter.schema.enum[0];
  const send = make("button", "Send", box);
  send.className = "main";
  const answer = make("pre", "", box);
  answer.hidden = true;
  send.onclick = async () => {
    const url = path.replace(/{(\w+)}/g, (_, name) => encodeURIComponent(values[name]));
    const headers = { Accept: "application/json", ...(body ? { "Content-Type": "application/json" } : {}) };
    const response = await fetch(url, { method: method.toUpperCase(), headers, body: body?.value });
    answer.textContent = `${response.status} ${response.statusText}\n${await response.text()}`;
    answer.hidden = false;
  };
  if (media) {
    const schema = make("details", "", box);
    make("summary", "Schema of the request", schema);
    make("pre", JSON.stringify(media.schema, null, 2), schema);
  }
}

async function show() {
  const api = await (await fetch("/openapi.json")).json();
  document.title = `${api.info.title}: routes`;
  document.getElementById("title").textContent = `${api.info.title}, version ${api.info.version}`;
  document.getElementById("description").textContent = api.info.description;
  const parent = document.getElementById("routes");
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) route(method, path, operation, parent);
  }
}
show();
