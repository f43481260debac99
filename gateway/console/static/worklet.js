// The audio thread's half of the softphone: microphone to 16 kHz frames, 16 kHz samples to speaker.
"use strict";

const RATE = 16000;
const FRAME_SAMPLES = RATE / 50;
const ZERO_CROSSINGS = 12;
const PHASES = 441;
const RING_SAMPLES = RATE * 30;
const CUSHION_SAMPLES = RATE * 0.06;
const LEVEL_EVERY_BLOCKS = 10;

// Band-limited interpolation: a windowed sinc, tabulated by fractional position.
class Resampler {
  constructor(from, to) {
    this.step = from / to;
    const cutoff = Math.min(1, to / from) * 0.95;
    this.half = Math.ceil(ZERO_CROSSINGS / cutoff);
    this.taps = this.half * 2;
    this.table = new Float32Array((PHASES + 1) * this.taps);
    for (let phase = 0; phase <= PHASES; phase += 1) this.fill(phase, cutoff);
  }

  fill(phase, cutoff) {
    let sum = 0;
    const at = phase * this.taps;
    for (let tap = 0; tap < this.taps; tap += 1) {
      const x = tap - this.half + 1 - phase / PHASES;
      const sinc = x === 0 ? 1 : Math.sin(Math.PI * cutoff * x) / (Math.PI * cutoff * x);
      const window = Math.abs(x) >= this.half ? 0 : 0.5 + 0.5 * Math.cos((Math.PI * x) / this.half);
      this.table[at + tap] = sinc * window;
      sum += sinc * window;
    }
    for (let tap = 0; tap < this.taps; tap += 1) this.table[at + tap] /= sum;
  }

  // The signal at a fractional position; read(index) gives one sample.
  at(position, read) {
    const whole = Math.floor(position);
    const row = Math.round((position - whole) * PHASES) * this.taps;
    let sum = 0;
    for (let tap = 0; tap < this.taps; tap += 1) {
      sum += this.table[row + tap] * read(whole - this.half + 1 + tap);
    }
    return sum;
  }
}

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, RATE);
    this.size = 1 << 14;
    this.ring = new Float32Array(this.size);
    this.written = 0;
    this.position = 0;
    this.frame = new Int16Array(FRAME_SAMPLES);
    this.filled = 0;
    this.read = (index) => (index < 0 ? 0 : this.ring[index & (this.size - 1)]);
  }

  process([input]) {
    const samples = input[0];
    if (!samples) return true;
    for (const sample of samples) {
      this.ring[this.written & (this.size - 1)] = sample;
      this.written += 1;
    }
    while (this.position + this.resampler.half < this.written) {
      this.put(this.resampler.at(this.position, this.read));
      this.position += this.resampler.step;
    }
    return true;
  }

  put(value) {
    this.frame[this.filled] = Math.round(Math.max(-1, Math.min(1, value)) * 32767);
    this.filled += 1;
    if (this.filled < FRAME_SAMPLES) return;
    this.port.postMessage(this.frame, [this.frame.buffer]);
    this.frame = new Int16Array(FRAME_SAMPLES);
    this.filled = 0;
  }
}

class Playout extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(RATE, sampleRate);
    this.ring = new Float32Array(RING_SAMPLES);
    this.read = (index) => (index < 0 || index >= this.written ? 0 : this.ring[index % RING_SAMPLES]);
    this.written = 0;
    this.position = 0;
    this.marks = [];
    this.playing = false;
    this.power = 0;
    this.blocks = 0;
    this.port.onmessage = ({ data }) => this.take(data);
  }

  take({ pcm, mark, clear }) {
    if (pcm) {
      const room = RING_SAMPLES - (this.written - Math.floor(this.position));
      if (pcm.length > room) this.port.postMessage({ dropped: pcm.length });
      else this.append(pcm);
    } else if (mark) {
      this.marks.push({ name: mark, at: this.written });
    } else if (clear) {
      this.position = this.written;
      this.playing = false;
      this.returnMarks();
    }
  }

  append(pcm) {
    for (const sample of pcm) {
      this.ring[this.written % RING_SAMPLES] = sample / 32768;
      this.written += 1;
    }
  }

  process(inputs, [output]) {
    const samples = output[0];
    const waiting = this.written - this.position;
    const complete = this.marks.length > 0 && this.marks[0].at - this.position < CUSHION_SAMPLES;
    if (!this.playing && waiting > 0 && (waiting >= CUSHION_SAMPLES || complete)) {
      this.playing = true;
      this.port.postMessage({ started: true });
    }
    for (let n = 0; n < samples.length && this.playing; n += 1) {
      if (this.position >= this.written) {
        this.playing = false;
        this.position = this.written;
        break;
      }
      samples[n] = this.resampler.at(this.position, this.read);
      this.power += samples[n] * samples[n];
      this.position += this.resampler.step;
    }
    this.returnMarks();
    this.tellLevel(samples.length);
    return true;
  }

  returnMarks() {
    while (this.marks.length && this.marks[0].at <= this.position) {
      this.port.postMessage({ played: this.marks.shift().name });
    }
  }

  tellLevel(size) {
    this.blocks += 1;
    if (this.blocks < LEVEL_EVERY_BLOCKS) return;
    const level = Math.sqrt(this.power / (this.blocks * size));
    this.port.postMessage({ level });
    this.power = 0;
    this.blocks = 0;
  }
}

registerProcessor("capture", Capture);
registerProcessor("playout", Playout);
