// Ask the server: frames over a socket, one at a time, and photographs over HTTP.

const QUALITY = 0.85;
const RETRY_MS = 1500;
const UNAUTHORIZED = 4401;
const BUSY = 1013;

/** Why an engine has no answer: `words` is the key of the text, `detail` what is put into it. */
export class EngineError extends Error {
  constructor(words, detail = "") {
    super(`${words} ${detail}`);
    this.words = words;
    this.detail = detail;
  }
}

export class ServerEngine {
  constructor(token) {
    this.token = token;
    this.socket = null;
    this.waiting = null;
    this.retryAt = 0;
  }

  /** The faces in a picture of a camera. Throws EngineError if the server cannot be asked now. */
  async detectFrame(canvas) {
    const socket = await this.connected();
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
    const answer = await new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
      socket.send(blob);
    });
    return answer.kind === "frame" ? answer : null;
  }

  async detectPhotograph(blob) {
    const headers = { "content-type": "application/octet-stream" };
    if (this.token) headers.authorization = `Bearer ${this.token}`;
    let response;
    try {
      response = await fetch("api/detect", { method: "POST", body: blob, headers });
    } catch {
      throw new EngineError("server gone");
    }
    if (response.status === 401) throw new EngineError("token");
    const answer = await response.json();
    if (!response.ok) throw new EngineError("refused", answer.error);
    return answer;
  }

  stop() {
    this.socket?.close();
    this.socket = null;
  }

  /** Pictures of the server's own camera: calls `show(blob, answer)` until the server goes. */
  watch(show, failed) {
    const socket = new WebSocket(address("api/camera"));
    let picture = null;
    socket.onopen = () => this.token && socket.send(JSON.stringify({ token: this.token }));
    socket.onmessage = ({ data }) => {
      if (typeof data !== "string") {
        picture = data;
        return;
      }
      const answer = JSON.parse(data);
      if (answer.kind === "camera") failed(new EngineError("camera failed", answer.error));
      else show(picture, answer);
    };
    socket.onclose = (event) => {
      failed(closed(event));
      if (event.code !== UNAUTHORIZED) setTimeout(() => this.watch(show, failed), RETRY_MS);
    };
  }

  async connected() {
    if (this.socket?.readyState === WebSocket.OPEN) return this.socket;
    const wait = this.retryAt - Date.now();
    if (wait > 0) await new Promise((done) => setTimeout(done, wait));
    this.retryAt = Date.now() + RETRY_MS;
    const socket = new WebSocket(address("api/live"));
    await new Promise((resolve, reject) => {
      socket.onopen = () => this.token && socket.send(JSON.stringify({ token: this.token }));
      socket.onmessage = resolve; // "ready"
      socket.onclose = (event) => reject(closed(event));
    });
    socket.onmessage = ({ data }) => this.waiting?.resolve(JSON.parse(data));
    socket.onclose = (event) => this.waiting?.reject(closed(event));
    this.socket = socket;
    return socket;
  }
}

function address(path) {
  const url = new URL(path, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.hash = "";
  return url;
}

function closed({ code }) {
  if (code === UNAUTHORIZED) return new EngineError("token");
  return new EngineError(code === BUSY ? "server busy" : "server gone");
}
