// What both pages need: making elements, writing figures, and the state of the server.

export const at = (id) => document.getElementById(id);

export function make(tag, text, parent, attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent?.append(element);
  return element;
}

// A share in per cent; what is not all or nothing is never rounded to it.
export function percent(share) {
  let text = (100 * share).toFixed(1);
  if (share < 1 && text === "100.0") text = "99.9";
  return `${text}\u202f%`;
}

// Four figures, or thousands.
export function number(value) {
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const text = Math.abs(value) >= 1e4 && Math.abs(value) < 1e9
    ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(4)));
  return text.replace("-", "\u2212");
}

export function bytes(size) {
  const units = ["bytes", "kB", "MB", "GB"];
  let unit = 0;
  for (; size >= 1000 && unit < units.length - 1; unit++) size /= 1000;
  return `${Number(size.toPrecision(3))} ${units[unit]}`;
}

export function duration(seconds) {
  const units = [["second", 60], ["minute", 60], ["hour", 24], ["day", Infinity]];
  let value = Math.max(0, seconds);
  for (const [name, size] of units) {
    if (value < size) {
      const whole = Math.floor(value);
      return `${whole.toLocaleString("en")} ${name}${whole === 1 ? "" : "s"}`;
    }
    value /= size;
  }
}

export async function served() {
  const response = await fetch("/", { headers: { Accept: "application/json" } });
  return response.json();
}

// Show the state, and call `ready` once, when there is a model, and `before` once if there is none yet. A server that
// does not answer is asked again.
export async function whenReady(ready, before) {
  const state = at("state");
  let waiting = before;
  for (;;) {
    let now;
    try {
      now = await served();
    } catch {
      now = null;
    }
    const serving = now?.model && now.ready;
    const kind = serving ? "ready" : now?.model || !now ? "bad" : "loading";
    const said = serving ? "Ready"
      : !now ? "The server does not answer; asking again"
      : now.model ? `Not ready: ${now.reason}`
      : `Not ready yet: ${now.reason}`;
    state.className = `state ${kind}`;
    // Only what is new is read out.
    if (state.dataset.said !== said) {
      state.dataset.said = said;
      state.textContent = said;
    }
    at("progress").hidden = kind !== "loading";
    if (kind === "loading") at("elapsed").textContent = `for ${duration(now.uptime_seconds)}`;
    if (now?.model) {
      await ready(now);
      return;
    }
    if (now) {
      await waiting?.();
      waiting = null;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
