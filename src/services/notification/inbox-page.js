/**
 * A live inbox over Connect, with nothing but fetch: log in, open the stream, list what there is, and show what the stream tells
 * from there on. A stream that ends goes on with its last cursor. Texts of others are set as text, never as markup.
 */
const AUTH = "/concierge.auth.v1.AuthService/";
const NOTIFICATION = "/concierge.notification.v1.NotificationService/";
const RETRY_MS = 1_000;
/** Bytes before each message of a stream: one of flags, and its length in four. */
const PREFIX_BYTES = 5;
const END_OF_STREAM = 2;

const byId = (id) => document.getElementById(id);
const articles = new Map();
let tokens = { accessToken: "", refreshToken: "" };

class CallError extends Error {
  constructor({ code = "unknown", message = "" }) {
    super(`${code}: ${message}`);
    this.code = code;
  }
}

function post(path, message, { type = "json", signal } = {}) {
  const headers = { "content-type": `application/${type}`, "connect-protocol-version": "1" };
  if (tokens.accessToken !== "") headers.authorization = `Bearer ${tokens.accessToken}`;
  return fetch(path, { method: "POST", headers, body: message, signal });
}

/** A unary call, made again with new tokens where the access token has expired. */
async function call(path, message, mayRefresh = true) {
  const response = await post(path, JSON.stringify(message));
  if (response.ok) return response.json();
  const error = new CallError(await response.json().catch(() => ({ code: String(response.status) })));
  if (error.code !== "unauthenticated" || !mayRefresh) throw error;
  await refresh();
  return call(path, message, false);
}

/** One at a time: a refresh token is good for one use. */
let refreshing;
function refresh() {
  refreshing ??= call(`${AUTH}RefreshToken`, { refreshToken: tokens.refreshToken }, false)
    .then((answer) => {
      tokens = answer;
    })
    .finally(() => {
      refreshing = undefined;
    });
  return refreshing;
}

/** The messages of a stream, up to its end or the signal's. Throws a CallError if it ended with one. */
async function* watch(cursor, signal) {
  const request = new TextEncoder().encode(JSON.stringify({ cursor }));
  const envelope = new Uint8Array(PREFIX_BYTES + request.length);
  new DataView(envelope.buffer).setUint32(1, request.length);
  envelope.set(request, PREFIX_BYTES);
  const response = await post(`${NOTIFICATION}WatchMyNotifications`, envelope, { type: "connect+json", signal });
  if (!response.ok) throw new CallError({ code: response.status === 401 ? "unauthenticated" : "unavailable" });
  let bytes = new Uint8Array();
  for await (const chunk of response.body) {
    const joined = new Uint8Array(bytes.length + chunk.length);
    joined.set(bytes);
    joined.set(chunk, bytes.length);
    bytes = joined;
    while (bytes.length >= PREFIX_BYTES) {
      const end = PREFIX_BYTES + new DataView(bytes.buffer, bytes.byteOffset).getUint32(1);
      if (bytes.length < end) break;
      const message = JSON.parse(new TextDecoder().decode(bytes.subarray(PREFIX_BYTES, end)));
      const isLast = (bytes[0] & END_OF_STREAM) !== 0;
      bytes = bytes.subarray(end);
      if (!isLast) yield message;
      else if (message.error) throw new CallError(message.error);
    }
  }
}

/** Ends with the session that is followed: another one may begin before its last wait is over. */
let following = new AbortController();

/** Follows the inbox until the signal aborts. */
async function follow(signal) {
  let cursor = "";
  while (!signal.aborted) {
    try {
      for await (const message of watch(cursor, signal)) {
        byId("state").textContent = "Live.";
        // Listed after the stream has begun, so that nothing is missed in between.
        if (cursor === "" || message.resync) await list(signal);
        if (message.notification) show(message.notification, "first");
        if (message.cancelledNotificationId) forget(message.cancelledNotificationId);
        cursor = message.cursor;
        await count();
      }
    } catch (error) {
      if (signal.aborted) return;
      byId("state").textContent = `Connecting again (${error.message}).`;
      if (error.code === "invalid_argument") cursor = "";
      if (error.code === "unauthenticated") await refresh().catch(leave);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

async function list(signal) {
  const { notifications = [] } = await call(`${NOTIFICATION}ListMyNotifications`, {});
  signal.throwIfAborted();
  for (const id of articles.keys()) forget(id);
  for (const notification of notifications) show(notification, "last");
}

async function count() {
  const { count = 0, isMore } = await call(`${NOTIFICATION}CountUnread`, {});
  byId("unread").textContent = `${count}${isMore ? " or more" : ""}`;
}

/** Puts a new one where it belongs, and changes one that is there. Whatever is shown has been received. */
function show({ notificationId, title, text, createdAt, receivedAt, readAt }, place) {
  let article = articles.get(notificationId);
  if (!article) {
    article = document.createElement("article");
    article.append(...["h2", "p", "time"].map((name) => document.createElement(name)));
    article.addEventListener("click", () => call(`${NOTIFICATION}MarkRead`, { notificationIds: [notificationId] }));
    articles.set(notificationId, article);
    if (place === "first") byId("notifications").prepend(article);
    else byId("notifications").append(article);
  }
  const [heading, body, time] = article.children;
  heading.textContent = title || "(no title)";
  body.textContent = text;
  const state = readAt ? "read" : receivedAt ? "received" : "new";
  time.textContent = `${new Date(createdAt).toLocaleString()}, ${state}`;
  if (state === "new") void call(`${NOTIFICATION}MarkReceived`, { notificationId }).catch(() => undefined);
}

/** Back to the form, where the session is over. */
function leave(error) {
  if (error.code !== "unauthenticated") return;
  tokens = { accessToken: "", refreshToken: "" };
  following.abort();
  byId("login").hidden = false;
  byId("summary").hidden = true;
  for (const id of articles.keys()) forget(id);
}

function forget(notificationId) {
  articles.get(notificationId)?.remove();
  articles.delete(notificationId);
}

byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    tokens = await call(`${AUTH}Login`, Object.fromEntries(new FormData(event.target)), false);
    event.target.hidden = true;
    byId("summary").hidden = false;
    following.abort();
    following = new AbortController();
    void follow(following.signal);
  } catch (error) {
    byId("state").textContent = error.message;
  }
});
