// How a route is called, by language: programs to copy.

const NUMPY = {
  BOOL: "np.bool_", UINT8: "np.uint8", UINT16: "np.uint16", UINT32: "np.uint32", UINT64: "np.uint64",
  INT8: "np.int8", INT16: "np.int16", INT32: "np.int32", INT64: "np.int64",
  FP16: "np.float16", FP32: "np.float32", FP64: "np.float64", BYTES: "np.object_",
};

// A JSON value as Python writes it.
function python(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${python(item)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curl(method, url, body) {
  if (!body) return `curl -s ${quoted(url)}`;
  return `curl -s ${quoted(url)} -H 'Content-Type: application/json' -d ${quoted(JSON.stringify(body))}`;
}

function requests(method, url, body, json) {
  const sent = body ? `, json=${python(body)}` : "";
  const lines = [
    "import requests", "", `answer = requests.${method}(${python(url)}${sent}, timeout=10)`,
    "answer.raise_for_status()", `print(answer.${json ? "json()" : "text"})`,
  ];
  return lines.join("\n");
}

function tritonclient(host, api, operation) {
  const { schema, example } = operation.requestBody.content["application/json"];
  const lines = [
    "import numpy as np", "import tritonclient.http as triton", "",
    `client = triton.InferenceServerClient(${python(host)})`, "inputs = []",
  ];
  for (const { name, datatype, data } of example.inputs) {
    lines.push(
      `value = np.array(${python(data)}, dtype=${NUMPY[datatype]})`,
      `tensor = triton.InferInput(${python(name)}, value.shape, ${python(datatype)})`,
      "tensor.set_data_from_numpy(value)", "inputs.append(tensor)",
    );
  }
  lines.push(`answer = client.infer(${python(api.info.title)}, inputs)`);
  for (const name of schema.properties.outputs.anyOf[0].items.properties.name.enum) {
    lines.push(`print(answer.as_numpy(${python(name)}))`);
  }
  return lines.join("\n");
}

export function samples(method, path, operation, api, { origin, host }) {
  const values = Object.fromEntries((operation.parameters ?? []).map((p) => [p.name, p.schema.enum[0]]));
  const url = origin + path.replace(/{(\w+)}/g, (_, name) => values[name]);
  const body = operation.requestBody?.content["application/json"].example;
  const json = "application/json" in (operation.responses["200"]?.content ?? { "application/json": {} });
  const made = { curl: curl(method, url, body), "Python, requests": requests(method, url, body, json) };
  if (operation.operationId.startsWith("infer") && body) made["Python, tritonclient"] = tritonclient(host, api, operation);
  return made;
}
