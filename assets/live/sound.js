// The browser's microphone: 16 kHz mono, 20 ms a chunk, from an AudioWorklet straight to the line's
// own thread (line.js). A page that is busy drawing holds up neither.

const RATE = 16000, CHUNK = 320;
const STILL_MS = 1500;  // without a chunk from the microphone: it is gone, or the computer slept

// Runs on the audio thread. Where the context cannot run at 16 kHz, a windowed sinc resamples.
const WORKLET = `
class Pcm extends AudioWorkletProcessor {
  constructor(options) {
    super();
    this.step = sampleRate / ${RATE};
    this.half = Math.ceil(16 * Math.max(1, this.step));
    this.past = new Float32Array(0);
    this.at = 0;
    this.out = new Int16Array(${CHUNK});
    this.n = 0;
    this.peak = 0;
    this.port.onmessage = ({ data }) => { if (data.line) this.line = data.line; else this.ended = true; };
  }
  process(inputs) {
    const input = inputs[0];
    if (this.ended) return false;
    if (!input.length) return true;
    let mono = input[0];
    if (input.length > 1) {
      mono = new Float32Array(input[0].length);
      for (const channel of input) for (let i = 0; i < mono.length; i++) mono[i] += channel[i] / input.length;
    }
    if (this.step === 1) for (let i = 0; i < mono.length; i++) this.put(mono[i]);
    else this.resample(mono);
    return true;
  }
  resample(mono) {
    const x = new Float32Array(this.past.length + mono.length);
    x.set(this.past); x.set(mono, this.past.length);
    const cut = 0.95 / Math.max(1, this.step);
    while (this.at + this.half < x.length) {
      const centre = Math.floor(this.at), low = Math.max(0, centre - this.half + 1);
      let sum = 0;
      for (let i = low; i <= centre + this.half && i < x.length; i++) {
        const t = this.at - i, w = Math.abs(t) / this.half;
        if (w >= 1) continue;
        const sinc = t === 0 ? cut : Math.sin(Math.PI * cut * t) / (Math.PI * t);
        sum += x[i] * sinc * (0.5 + 0.5 * Math.cos(Math.PI * w));
      }
      this.put(sum);
      this.at += this.step;
    }
    const keep = Math.max(0, Math.floor(this.at) - this.half);
    this.past = x.slice(keep);
    this.at -= keep;
  }
  put(sample) {
    const s = Math.max(-1, Math.min(1, sample));
    this.peak = Math.max(this.peak, Math.abs(s));
    this.out[this.n++] = Math.round(s * 32767);
    if (this.n < ${CHUNK}) return;
    this.line?.postMessage({ pcm: this.out.buffer, stamp: Date.now() }, [this.out.buffer]);
    this.port.postMessage(this.peak);
    this.out = new Int16Array(${CHUNK});
    this.n = 0;
    this.peak = 0;
  }
}
registerProcessor('refine-pcm', Pcm);
`;

// What stands in the way of a microphone, before anybody clicks; null where nothing is known to.
async function obstacle() {
  if (!window.isSecureContext)
    return `Browsers give a microphone to secure pages only, and ${location.origin} is not one. ` +
      'Open the page as http://localhost on the computer that serves it, or start it with ' +
      'make app HOST=0.0.0.0 TLS=1 and open the https address.';
  if (!navigator.mediaDevices || !window.AudioWorkletNode)
    return 'This browser cannot stream sound. Choose “record” above, or use a current Chromium, Firefox or Safari.';
  try {
    const state = await navigator.permissions.query({ name: 'microphone' });
    if (state.state === 'denied')
      return 'The microphone is blocked for this page. Click the icon left of the address, allow the ' +
        'microphone, and reload; or choose a clip above.';
  } catch { /* Firefox and Safari do not tell before they ask */ }
  const devices = await navigator.mediaDevices.enumerateDevices().catch(() => []);
  if (!devices.some((device) => device.kind === 'audioinput'))
    return 'This computer has no microphone. Plug one in, or choose a clip above.';
  return null;
}

function explained(error) {
  const reasons = {
    NotAllowedError: 'The microphone was not allowed. Click the icon left of the address, allow it, and press Listen again.',
    NotFoundError: 'No microphone was found. Plug one in and press Listen again, or choose a clip above.',
    NotReadableError: 'Another program holds the microphone. Close it there and press Listen again.',
    SecurityError: 'The browser gives no microphone to this page; open it as localhost or over https.',
  };
  return reasons[error.name] || `The microphone could not be opened (${error.name}). Choose “record” above instead.`;
}

class Microphone {
  // line: where its sound goes; onChunk is told how loud each chunk was
  constructor(line, onChunk, onLost) { Object.assign(this, { line, onChunk, onLost, last: 0, closed: false }); }

  get still() { return !!this.node && performance.now() - this.last > STILL_MS; }

  async open() {
    this.stream = await navigator.mediaDevices.getUserMedia({
      // what a class hears should be what was said: no processing in between
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    if (this.closed) { this.close(); return; }  // stopped while the browser asked
    const track = this.stream.getAudioTracks()[0];
    track.onended = () => this.onLost();
    try {
      this.context = new AudioContext({ sampleRate: RATE, latencyHint: 'interactive' });
      this.source = this.context.createMediaStreamSource(this.stream);
    } catch {  // Firefox joins no stream and context of different rates
      await this.context?.close();
      this.context = new AudioContext({ latencyHint: 'interactive' });
      this.source = this.context.createMediaStreamSource(this.stream);
    }
    const address = URL.createObjectURL(new Blob([WORKLET], { type: 'text/javascript' }));
    await this.context.audioWorklet.addModule(address);
    URL.revokeObjectURL(address);
    if (this.closed) return;
    this.node = new AudioWorkletNode(this.context, 'refine-pcm', { numberOfOutputs: 0 });
    this.last = performance.now() + 1000;  // a device may take its time to begin
    this.node.port.onmessage = ({ data }) => { this.last = Math.max(this.last, performance.now()); this.onChunk(data); };
    const { port1, port2 } = new MessageChannel();
    this.node.port.postMessage({ line: port1 }, [port1]);
    this.line.hear(port2);
    this.source.connect(this.node);
    if (this.context?.state === 'suspended') await this.context.resume();
  }

  close() {
    this.closed = true;
    this.node?.port.postMessage({ end: true });
    this.stream?.getTracks().forEach((track) => { track.onended = null; track.stop(); });
    this.context?.close().catch(() => {});
    this.stream = this.context = this.node = null;
  }
}

// The page's side of the line: orders go to its thread, what it hears and counts comes back.
class Line {
  constructor(on) { Object.assign(this, { on, unsent: 0, passed: 0, run: 0, live: 0 }); }

  get thread() {
    if (this.worker) return this.worker;
    const address = URL.createObjectURL(new Blob([LINE], { type: 'text/javascript' }));
    this.worker = new Worker(address);
    URL.revokeObjectURL(address);
    this.worker.onmessage = ({ data: { does, run, unsent, passed, values } }) => {
      Object.assign(this, { unsent, passed });
      this.on.counted();
      if (does && run === this.live) this.on[does](...values);  // not what was under way at a stop
    };
    return this.worker;
  }

  open(path, token, source, was) {
    const address = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${path}`;
    this.live = ++this.run;
    this.thread.postMessage({ does: 'network', values: [navigator.onLine] });
    this.ask('open', this.run, address, token, source, was);
    window.addEventListener('online', this.online ??= () => this.ask('network', true));
    window.addEventListener('offline', this.offline ??= () => this.ask('network', false));
  }

  hear(port) { this.thread.postMessage({ does: 'hear', values: [port] }, [port]); }

  say(order) { this.ask('say', order); }

  close() {
    this.live = 0;
    this.ask('close');
    window.removeEventListener('online', this.online);
    window.removeEventListener('offline', this.offline);
  }

  end() { this.close(); this.worker?.terminate(); this.worker = null; }

  ask(does, ...values) { this.worker?.postMessage({ does, values }); }
}
