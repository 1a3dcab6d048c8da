/** What each device was pushed, looked up once a second. Texts of others are set as text, never as markup. */
const LOOK_MS = 1_000;

const state = document.getElementById("state");
const devices = document.getElementById("devices");
let shown = "";

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

function pushOf({ time, message }) {
  const { notification = {}, data = {} } = message;
  const rows = Object.entries(data).map(([key, value]) => element("li", `${key}: ${value}`));
  return element(
    "article",
    undefined,
    element("h3", notification.title || "(no title)"),
    element("p", notification.body ?? ""),
    element("ul", undefined, ...rows),
    element("time", new Date(time).toLocaleString()),
  );
}

function show(pushes) {
  const byDevice = Map.groupBy(pushes, ({ token, message }) => token ?? message.topic ?? message.condition ?? "?");
  devices.replaceChildren(
    ...[...byDevice].map(([device, own]) => element("section", undefined, element("h2", device), ...own.map(pushOf))),
  );
  state.textContent = pushes.length === 0 ? "None yet." : "";
}

async function look() {
  const text = await (await fetch("/pushes")).text();
  if (text === shown) return;
  show(JSON.parse(text).pushes);
  shown = text;
}

for (;;) {
  await look().catch(() => {
    state.textContent = "The stand-in does not answer.";
    shown = "";
  });
  await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
}
