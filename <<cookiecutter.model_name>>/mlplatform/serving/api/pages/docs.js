import { at, make, whenReady } from "/pages/common.js";
import { samples } from "/pages/samples.js";

// Tabs of samples in each language, the shown one to copy.
function sampleBox(method, path, operation, api, parent) {
  const box = make("div", "", parent, { class: "samples" });
  const choice = make("div", "", box, { role: "group", "aria-label": `languages of the sample for ${path}` });
  const code = make("pre", "", box, { tabindex: "0" });
  const copy = make("button", "Copy", choice, { type: "button", class: "copy" });
  const said = make("span", "", choice, { role: "status", class: "note" });
  for (const [language, text] of Object.entries(samples(method, path, operation, api, location))) {
    const button = make("button", language, null, { type: "button", "aria-pressed": "false" });
    copy.before(button);
    button.onclick = () => {
      for (const other of choice.querySelectorAll("[aria-pressed]")) other.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-pressed", "true");
      code.textContent = text;
      said.textContent = "";
    };
  }
  choice.querySelector("[aria-pressed]").click();
  copy.onclick = async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      said.textContent = "Copied.";
    } catch {
      // Without HTTPS a browser lets no page write there.
      getSelection().selectAllChildren(code);
      said.textContent = "Selected; copy with Ctrl + C.";
    }
  };
}

function attempt(method, path, operation, parent) {
  const media = operation.requestBody?.content["application/json"];
  let body;
  if (media) {
    make("h4", "Request", parent);
    body = make("textarea", media.example ? JSON.stringify(media.example) : "{}", parent, {
      "aria-label": `request of ${path}`, spellcheck: "false",
    });
  }
  const send = make("button", "Send", parent, { type: "button", class: "main" });
  const answer = make("pre", "", parent, { "aria-live": "polite", tabindex: "0" });
  answer.hidden = true;
  const values = {};
  for (const parameter of operation.parameters ?? []) values[parameter.name] = parameter.schema.enum[0];
  send.onclick = async () => {
    const url = path.replace(/{(\w+)}/g, (_, name) => encodeURIComponent(values[name]));
    const accept = Object.keys(operation.responses["200"]?.content ?? { "application/json": {} })[0];
    const headers = { Accept: accept, ...(body ? { "Content-Type": "application/json" } : {}) };
    answer.hidden = false;
    try {
      const response = await fetch(url, { method: method.toUpperCase(), headers, body: body?.value });
      answer.textContent = `${response.status} ${response.statusText}\n${await response.text()}`;
    } catch {
      answer.textContent = "The server does not answer.";
    }
  };
}

function route(method, path, operation, api, parent) {
  const box = make("details", "", parent);
  const head = make("summary", "", box);
  make("span", method.toUpperCase(), head, { class: "method" });
  make("code", path, head);
  make("span", ` ${operation.summary}`, head);
  sampleBox(method, path, operation, api, box);
  attempt(method, path, operation, box);
  make("h4", "Answers", box);
  const table = make("table", "", box, { class: "wide" });
  for (const [status, response] of Object.entries(operation.responses)) {
    const row = table.insertRow();
    make("th", status, row, { scope: "row" });
    row.insertCell().textContent = response.description;
  }
  const media = operation.requestBody?.content["application/json"];
  if (media) {
    const schema = make("details", "", box);
    make("summary", "Schema of the request", schema);
    make("pre", JSON.stringify(media.schema, null, 2), schema, { tabindex: "0" });
  }
}

async function show() {
  const api = await (await fetch("/openapi.json")).json();
  document.title = `${api.info.title}: routes`;
  at("title").textContent = api.info.title;
  at("description").textContent = api.info.description;
  at("routes").replaceChildren();
  for (const tag of api.tags) {
    const section = make("section", "", at("routes"), { "aria-label": tag.name });
    make("h2", tag.name, section);
    make("p", tag.description, section, { class: "note" });
    const named = make("details", "");
    make("summary", "The same for a version or a label by name", named);
    for (const [path, methods] of Object.entries(api.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        if (operation.tags[0] === tag.name) route(method, path, operation, api, path.includes("{") ? named : section);
      }
    }
    if (named.childElementCount > 1) section.append(named);
    if (section.childElementCount < 3) section.remove();
  }
}

// Without a model there are fewer routes.
whenReady(show, show);
