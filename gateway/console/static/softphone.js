// The softphone: microphone -> plain protocol -> gateway -> plain protocol -> speaker, captions.
// A call is one object with an end; the panel only shows what it tells.

const FRAME_MS = 20;
const QUIET_DBFS = -50;
const ABOVE_NOISE_DB = 12;
const STILL_SPEAKS_MS = 200;
const ANSWERS_KEPT = 50;
const WAITING_BYTES_MAX = 64 * 1024;
const CAPTIONS_MAX = 100;

const REFUSALS = {
  NotAllowedError: "The microphone was refused. Allow it for this page in the address bar, then call again.",
  NotFoundError: "No microphone was found. Plug one in, or choose one in the system's settings.",
  NotReadableError: "The microphone is in use by another program, or the system keeps it from the browser.",
};

export const milliseconds = (value) => (value < 1000 ? `${value} ms` : `${(value / 1000).toFixed(1)} s`);

const decibels = (level) => (level > 0 ? 20 * Math.log10(level) : -100);

function toBase64(bytes) {
  return btoa(String.fromCharCode(...bytes));
}

function fromBase64(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let n = 0; n < raw.length; n += 1) bytes[n] = raw.charCodeAt(n);
  return new Int16Array(bytes.buffer);
}

function rootMeanSquare(pcm) {
  let sum = 0;
  for (const sample of pcm) sum += sample * sample;
  return Math.sqrt(sum / pcm.length) / 32768;
}

// When the caller's voice was last there: what is well above the room's own noise.
class VoiceClock {
  noise = -70;
  lastMs = null;

  hear(level) {
    const dbfs = decibels(level);
    this.noise = dbfs < this.noise ? dbfs : Math.min(this.noise + 0.05, QUIET_DBFS - ABOVE_NOISE_DB);
    if (dbfs > Math.max(QUIET_DBFS, this.noise + ABOVE_NOISE_DB)) this.lastMs = performance.now();
  }

  // How long ago the voice ended; told once for each time it was there, and not while it is.
  take() {
    if (this.lastMs === null) return null;
    const waited = performance.now() - this.lastMs;
    if (waited < STILL_SPEAKS_MS) return null;
    this.lastMs = null;
    return waited;
  }
}

export class Call {
  // tell(event): what a panel shows. Events are {ready}, {caption}, {levels}, {answer}, {over}.
  // obstacle(): why a call may not be taken just now; a browser is not told why it was refused.
  constructor({ url, token, language, tell, obstacle }) {
    this.url = url;
    this.token = token;
    this.obstacle = obstacle;
    this.language = language;
    this.tell = tell;
    this.id = `web-${crypto.randomUUID()}`;
    this.voice = new VoiceClock();
    this.muted = false;
    this.over = false;
    this.counts = { sent: 0, received: 0, dropped: 0, clears: 0, marks: 0 };
  }

  async start() {
    const microphone = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: microphone });
    if (this.over) return this.release();
    this.audio = new AudioContext({ latencyHint: "interactive" });
    await this.audio.audioWorklet.addModule("/worklet.js");
    if (this.over) return this.release();
    const [track] = this.stream.getAudioTracks();
    track.onended = () => this.end("The microphone was unplugged.");
    this.playout = new AudioWorkletNode(this.audio, "playout", { numberOfInputs: 0 });
    this.playout.connect(this.audio.destination);
    this.playout.port.onmessage = ({ data }) => this.played(data);
    this.capture = new AudioWorkletNode(this.audio, "capture", { numberOfOutputs: 0 });
    this.capture.port.onmessage = ({ data }) => this.captured(data);
    await this.audio.resume();
    this.connect();
  }

  connect() {
    // A page cannot set headers of a WebSocket: the token travels as a subprotocol beside ours.
    this.socket = new WebSocket(this.url, this.token ? ["plain", `bearer.${this.token}`] : []);
    this.socket.onopen = () => {
      this.send({ type: "init", callId: this.id, languageHint: this.language });
    };
    this.socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    this.socket.onclose = ({ code, reason }) => this.end(this.reasonOf(code, reason));
  }

  reasonOf(code, reason) {
    if (!this.isReady) return `The gateway did not take the call: ${reason || this.obstacle()}.`;
    return code === 1000 ? "The call has ended." : `The call was cut${reason ? `: ${reason}` : ""}.`;
  }

  receive(message) {
    if (message.type === "audio_out") this.hear(fromBase64(message.payload));
    else if (message.type === "mark") this.playout.port.postMessage({ mark: message.name });
    else if (message.type === "clear") this.clear();
    else if (message.type === "transcript") this.tell({ caption: message });
    else if (message.type === "ready") this.begin();
    else if (message.type === "error") this.tell({ trouble: message.message });
  }

  begin() {
    this.isReady = true;
    this.audio.createMediaStreamSource(this.stream).connect(this.capture);
    this.tell({ ready: true });
  }

  hear(pcm) {
    this.counts.received += pcm.length / (FRAME_MS * 16);
    this.playout.port.postMessage({ pcm }, [pcm.buffer]);
  }

  clear() {
    this.counts.clears += 1;
    this.playout.port.postMessage({ clear: true });
  }

  played({ level, started, played, dropped }) {
    if (started) this.answered();
    if (played) {
      this.counts.marks += 1;
      this.send({ type: "mark", callId: this.id, name: played });
    }
    if (dropped) this.counts.dropped += 1;
    if (level !== undefined) this.tell({ levels: { assistant: decibels(level) } });
  }

  // The assistant becomes audible: the caller has waited since their last word.
  answered() {
    const waited = this.voice.take();
    if (waited !== null) this.tell({ answer: Math.round(waited) });
  }

  captured(pcm) {
    if (this.muted) pcm.fill(0);
    const level = rootMeanSquare(pcm);
    this.voice.hear(level);
    this.tell({ levels: { caller: decibels(level) } });
    if (this.socket.bufferedAmount > WAITING_BYTES_MAX) {
      this.counts.dropped += 1; // the network is slower than speech
      return;
    }
    this.counts.sent += 1;
    const payload = toBase64(new Uint8Array(pcm.buffer));
    this.send({ type: "audio", callId: this.id, payload });
  }

  press(digit) {
    this.send({ type: "dtmf", callId: this.id, digit });
  }

  hangUp() {
    this.send({ type: "stop", callId: this.id });
    this.end("You hung up.");
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  end(reason) {
    if (this.over) return;
    this.over = true;
    this.release();
    this.tell({ over: reason });
  }

  release() {
    if (this.socket) this.socket.onclose = null;
    this.socket?.close(1000);
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    if (this.audio && this.audio.state !== "closed") this.audio.close();
  }
}

// The panel.
export class Softphone {
  constructor({ root, address, obstacle }) {
    this.root = root;
    this.address = address;
    this.obstacle = obstacle;
    this.call = null;
    this.answers = [];
    this.part = (name) => root.querySelector(`[data-part="${name}"]`);
    this.part("call").onclick = () => (this.call ? this.call.hangUp() : this.dial());
    this.part("mute").onclick = () => this.mute();
    this.part("keys").onclick = () => this.showKeys(this.part("keypad").hidden);
    for (const key of this.part("keypad").querySelectorAll("button")) {
      key.onclick = () => this.call?.press(key.value);
    }
    root.addEventListener("keydown", (event) => this.typed(event));
    this.show("idle", "Ready to call");
  }

  typed(event) {
    if (!this.call || !/^[0-9*#]$/.test(event.key) || event.target.matches("select, input")) return;
    this.call.press(event.key);
  }

  async dial() {
    if (!window.isSecureContext || !navigator.mediaDevices) {
      this.show("idle", "A browser gives the microphone only to pages of this machine or over HTTPS. "
        + "Open the console as http://127.0.0.1, or put TLS in front of it.", true);
      return;
    }
    this.answers = [];
    this.showAnswers();
    this.part("captions").replaceChildren();
    this.show("dialling", "Calling …");
    try {
      const { url, token } = await this.address();
      const language = this.root.querySelector("select").value;
      const tell = (event) => this.told(event);
      this.call = new Call({ url, token, language, tell, obstacle: this.obstacle });
      await this.call.start();
    } catch (error) {
      this.call?.end("");
      this.call = null;
      this.show("idle", REFUSALS[error.name] ?? `The call could not begin: ${error.message}`, true);
    }
  }

  told({ ready, caption, levels, answer, trouble, over }) {
    if (levels) this.showLevels(levels);
    if (ready) this.begin();
    if (caption) this.addCaption(caption);
    if (answer !== undefined) this.addAnswer(answer);
    if (trouble) this.part("status").textContent = trouble;
    if (over !== undefined) this.finish(over);
  }

  begin() {
    this.startedMs = performance.now();
    this.part("clock").textContent = "0:00";
    this.show("live", "Connected");
    this.timer = setInterval(() => this.tick(), 500);
  }

  tick() {
    const seconds = Math.floor((performance.now() - this.startedMs) / 1000);
    const text = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    this.part("clock").textContent = text; // apart from the status: that is read out at each change
    for (const [name, count] of Object.entries(this.call?.counts ?? {})) {
      this.root.dataset[name] = String(Math.round(count));
    }
    const { sent, received, clears, dropped } = this.root.dataset;
    this.part("details").textContent =
      `Frames: ${sent} sent, ${received} received, ${dropped} dropped. Interruptions: ${clears}.`;
  }

  finish(reason) {
    clearInterval(this.timer);
    const failed = this.root.dataset.state !== "live";
    this.call = null;
    this.showLevels({ caller: -100, assistant: -100 });
    this.show("idle", reason || "Ready to call", failed && reason !== "You hung up.");
  }

  mute() {
    if (!this.call) return;
    this.call.muted = !this.call.muted;
    this.part("mute").setAttribute("aria-pressed", String(this.call.muted));
  }

  showKeys(open) {
    this.part("keypad").hidden = !open;
    this.part("keys").setAttribute("aria-expanded", String(open));
  }

  show(state, text, trouble = false) {
    this.root.dataset.state = state;
    this.part("status").textContent = text;
    this.part("status").dataset.trouble = String(trouble);
    const label = { idle: "Call", dialling: "Cancel", live: "Hang up" }[state];
    this.part("call-label").textContent = label;
    this.part("clock").hidden = state !== "live";
    this.root.querySelector("select").disabled = state !== "idle";
    for (const name of ["mute", "keys"]) this.part(name).disabled = state !== "live";
    if (state !== "live") {
      this.part("mute").setAttribute("aria-pressed", "false");
      this.showKeys(false);
    }
  }

  showLevels(levels) {
    for (const [party, dbfs] of Object.entries(levels)) {
      this.part(`level-${party}`).value = Math.max(-60, Math.min(0, dbfs));
      if (party === "assistant" && dbfs > -60) this.root.dataset.heard = "true";
    }
  }

  addCaption({ role, text }) {
    const captions = this.part("captions");
    const item = document.createElement("li");
    item.className = role;
    const who = document.createElement("span");
    who.className = "who";
    who.textContent = role === "caller" ? "You" : "Assistant";
    const words = document.createElement("p");
    words.dir = "auto";
    words.textContent = text;
    item.append(who, words);
    captions.append(item);
    while (captions.children.length > CAPTIONS_MAX) captions.firstChild.remove();
    captions.scrollTop = captions.scrollHeight;
  }

  addAnswer(waitedMs) {
    this.answers.push(waitedMs);
    this.answers = this.answers.slice(-ANSWERS_KEPT);
    this.root.dataset.answers = String(this.answers.length);
    this.showAnswers();
    // The words of an answer come before it is heard; a filler has none.
    const latest = this.part("captions").lastElementChild;
    if (latest?.className === "assistant") {
      latest.querySelector(".who").textContent = `Assistant · after ${milliseconds(waitedMs)}`;
    }
  }

  showAnswers() {
    const last = this.answers.at(-1);
    const sorted = [...this.answers].sort((a, b) => a - b);
    const middle = sorted[Math.floor((sorted.length - 1) / 2)];
    this.part("answer").textContent = last === undefined ? "–" : milliseconds(last);
    this.part("median").textContent = middle === undefined ? "–" : milliseconds(middle);
  }
}
