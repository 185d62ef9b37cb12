// The browser's microphone: 16 kHz mono, 20 ms a chunk, from an AudioWorklet to a WebSocket.

const RATE = 16000, CHUNK = 320;
const QUIET_MS = 1500, LOST_MS = 3000;  // without a word from the server: say so, then connect anew
const STILL_MS = 2000;  // without a chunk from the microphone: it is gone, or the computer slept

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
    this.port.onmessage = () => { this.ended = true; };
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
    // stamped here, so that a busy page counts in the delay that is shown
    this.port.postMessage({ pcm: this.out.buffer, peak: this.peak, stamp: Date.now() }, [this.out.buffer]);
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
  constructor(onChunk, onLost) { this.onChunk = onChunk; this.onLost = onLost; this.last = 0; }

  get still() { return !!this.node && performance.now() - this.last > STILL_MS; }

  async open() {
    this.stream = await navigator.mediaDevices.getUserMedia({
      // what a class hears should be what was said: no processing in between
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
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
    this.node = new AudioWorkletNode(this.context, 'refine-pcm', { numberOfOutputs: 0 });
    this.last = performance.now() + 1000;  // a device may take its time to begin
    this.node.port.onmessage = ({ data }) => { this.last = Math.max(this.last, performance.now()); this.onChunk(data.pcm, data.peak, data.stamp); };
    this.source.connect(this.node);
    if (this.context.state === 'suspended') await this.context.resume();
  }

  close() {
    this.node?.port.postMessage('end');
    this.stream?.getTracks().forEach((track) => { track.onended = null; track.stop(); });
    this.context?.close().catch(() => {});
    this.stream = this.context = this.node = null;
  }
}

// Connects, connects again, and counts what could not be sent.
class Line {
  // chunks: unsent were lost here, passed went to a socket, of which this one holds `here` and the
  // server has named `got`
  constructor(on) { Object.assign(this, { on, wanted: false, unsent: 0, passed: 0, here: 0, got: 0, tries: 0, heard: 0 }); }

  open(path, token, source, was) {
    Object.assign(this, { path, token, source, was, wanted: true, fresh: true });
    this.watch ??= setInterval(() => this.check(), 500);
    this.connect();
    window.addEventListener('online', this.online ??= () => this.wanted && this.connect());
    window.addEventListener('offline', this.offline ??= () => this.on.lost('This computer has lost its network; waiting for it.'));
  }

  connect() {
    clearTimeout(this.timer);
    this.drop();
    const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${this.path}`);
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    this.heard = performance.now();
    socket.onopen = () => {
      const { token, source, fresh, was } = this;
      socket.send(JSON.stringify({ token, source, fresh, was }));
      if (fresh) this.unsent = this.passed = 0;  // nothing is lost before there is a line
      this.fresh = this.quiet = false;
      this.on.open();
    };
    socket.onmessage = ({ data }) => {
      this.heard = performance.now();
      this.tries = 0;
      if (this.quiet) { this.quiet = false; this.on.open(); }
      const message = JSON.parse(data), at = Date.now();
      if (message.type === 'pong') this.got = message.got; else this.on.message(message, at);
    };
    socket.onclose = (event) => { if (this.socket === socket) { this.miss(); this.socket = null; this.closed(event); } };
  }

  closed({ code, reason }) {
    if (!this.wanted) return;
    if (code === 4409 || code === 4429 || code === 4400) { this.close(); this.on.refused(reason); return; }
    if (code === 4401) this.on.unknown();
    this.tries += 1;
    this.on.lost(code === 1011 && reason ? reason : 'The connection to the server is lost; trying again.');
    this.timer = setTimeout(() => this.wanted && this.connect(), Math.min(2000, 300 * this.tries));
  }

  check() {
    if (!this.wanted || !this.socket) return;
    const silent = performance.now() - this.heard;
    if (this.socket.readyState === 1) this.say({ type: 'ping' });
    if (silent > LOST_MS * (1 + Math.min(2, this.tries / 2)) && this.source === 'browser') { this.tries += 1; this.connect(); return; }
    if (silent > QUIET_MS && this.source === 'browser') { this.quiet = true; this.on.lost('No word from the server; trying again.'); }
  }

  send(pcm, stamp) {
    const socket = this.socket;
    // a line that is stuck must not fill up with old sound: 0.5 s at most waits here
    if (!socket || socket.readyState !== 1 || socket.bufferedAmount > 16000) { this.unsent += 1; return; }
    const chunk = new Uint8Array(8 + pcm.byteLength);
    new DataView(chunk.buffer).setFloat64(0, stamp, true);
    chunk.set(new Uint8Array(pcm), 8);
    socket.send(chunk);
    this.passed += 1;
    this.here += 1;
  }

  say(order) { if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(order)); }

  // What a broken line had taken and the server has not named is lost.
  miss() {
    if (this.wanted) { this.unsent += this.here - this.got; this.passed -= this.here - this.got; }
    this.here = this.got = 0;
  }

  drop() {
    const socket = this.socket;
    if (socket) this.miss();
    this.socket = null;
    if (socket) { socket.onclose = socket.onmessage = null; socket.close(); }
  }

  close() {
    this.wanted = false;
    clearTimeout(this.timer);
    clearInterval(this.watch);
    this.watch = null;
    window.removeEventListener('online', this.online);
    window.removeEventListener('offline', this.offline);
    this.drop();
  }
}
