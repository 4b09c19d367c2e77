// What the page asks of the server, and why an answer is none.

export const UNREACHABLE = "The server cannot be reached.";

// An answer that is none. status: of HTTP; 0: there was no answer.    retryAfter: seconds, if the server told.
export class Failure extends Error {
  constructor(status, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

// From what was answered. body: its text; the server's own errors are {"error": "one line"}.
export function failureOf(status, body, retryAfter) {
  let message = `The server answered ${status}.`;
  try {
    message = JSON.parse(body).error ?? message;
  } catch { /* of something in between, such as a proxy */ }
  if (status === 401) window.dispatchEvent(new Event("locked"));
  return new Failure(status, String(message), Number(retryAfter) || null);
}

// The JSON of an answer, or null for an empty one. Throws Failure.
export async function ask(method, path, content) {
  const options = { method, cache: "no-store" };
  if (content !== undefined) {
    options.body = JSON.stringify(content);
    options.headers = { "Content-Type": "application/json" };
  }
  let answer;
  let body;
  try {
    answer = await fetch(path, options);
    body = await answer.text();
  } catch {
    throw new Failure(0, UNREACHABLE);
  }
  if (!answer.ok) throw failureOf(answer.status, body, answer.headers.get("Retry-After"));
  return body ? JSON.parse(body) : null;
}

export const getJobs = async () => (await ask("GET", "/api/jobs?limit=200")).jobs;
export const getJob = (id) => ask("GET", `/api/jobs/${id}`);
export const deleteJob = (id) => ask("DELETE", `/api/jobs/${id}`);
export const getSession = () => ask("GET", "/api/session");
export const openSession = (token) => ask("POST", "/api/session", { token });
export const closeSession = () => ask("DELETE", "/api/session");
export const resultPath = (id, name) => `/api/jobs/${id}/results/${encodeURIComponent(name)}`;
