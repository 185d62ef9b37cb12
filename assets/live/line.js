// The line to the server, on a thread of its own: connects, connects again, counts what is lost.
// Orders come from the page (`Line` in sound.js), sound from the microphone's own thread.

const QUIET_MS = 1500, LOST_MS = 3000;  // without a word from the server: say so, then connect anew
// A line that is too slow must not fill up with old sound; one that only stood still gives all of it.
const STUCK = 16000, STUCK_MS = 2000;  // bytes (0.5 s) that may wait for longer than that

class Line {
  // chunks: unsent were lost here, passed went to a socket, of which this one holds `here` and the
  // server has named `got`
  constructor() { Object.assign(this, { wanted: false, unsent: 0, passed: 0, here: 0, got: 0, tries: 0, heard: 0, online: true }); }

  tell(does, ...values) { postMessage({ does, values, run: this.run, unsent: this.unsent, passed: this.passed }); }

  open(run, address, token, source, was) {
    Object.assign(this, { run, address, token, source, was, wanted: true, fresh: true, tries: 0 });
    this.watch ??= setInterval(() => this.check(), 500);
    this.connect();
  }

  connect() {
    clearTimeout(this.timer);
    this.drop();
    const socket = new WebSocket(this.address);
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    this.heard = this.flowed = performance.now();
    socket.onopen = () => {
      const { token, source, fresh, was } = this;
      socket.send(JSON.stringify({ token, source, fresh, was }));
      if (fresh) this.unsent = this.passed = 0;  // nothing is lost before there is a line
      this.fresh = this.quiet = false;
      this.tell('open');
    };
    socket.onmessage = ({ data }) => {
      const at = Date.now();
      this.heard = performance.now();
      this.tries = 0;
      if (this.quiet) { this.quiet = false; this.tell('open'); }
      const message = JSON.parse(data);
      if (message.type === 'pong') this.got = message.got; else this.tell('message', message, at);
    };
    socket.onclose = (event) => { if (this.socket === socket) { this.miss(); this.socket = null; this.closed(event); } };
  }

  closed({ code, reason }) {
    if (!this.wanted) return;
    if (code === 4409 || code === 4429 || code === 4400) { this.close(); this.tell('refused', reason); return; }
    if (code === 4401) this.tell('unknown');
    this.tries += 1;
    this.tell('lost', code === 1011 && reason ? reason : this.online ? 'The connection to the server is lost; trying again.' : this.waiting);
    this.timer = setTimeout(() => this.wanted && this.connect(), Math.min(2000, 300 * this.tries));
  }

  // A computer that serves itself needs no network, so its loss is told once the server is not heard.
  check() {
    if (!this.wanted || !this.socket) return;
    const silent = performance.now() - this.heard;
    if (this.socket.readyState === 1) this.say({ type: 'ping' });
    // a clip would begin again with a new line
    if (silent > LOST_MS * (1 + Math.min(2, this.tries / 2)) && this.source !== 'clip') { this.tries += 1; this.connect(); return; }
    if (silent > QUIET_MS) { this.quiet = true; this.tell('lost', this.online ? 'No word from the server; trying again.' : this.waiting); return; }
    this.tell();
  }

  get waiting() { return 'This computer has lost its network; waiting for it.'; }

  network(online) { this.online = online; if (online && this.wanted && (this.quiet || !this.socket) && this.source !== 'clip') this.connect(); }

  hear(port) { this.port?.close(); this.port = port; port.onmessage = ({ data }) => this.send(data.pcm, data.stamp); }

  send(pcm, stamp) {
    const { socket } = this;
    if (!this.wanted) return;
    if (!socket || socket.readyState !== 1 || this.stuck(socket)) { this.unsent += 1; return; }
    const chunk = new Uint8Array(8 + pcm.byteLength);
    new DataView(chunk.buffer).setFloat64(0, stamp, true);
    chunk.set(new Uint8Array(pcm), 8);
    socket.send(chunk);
    this.passed += 1;
    this.here += 1;
  }

  stuck({ bufferedAmount }) {
    const now = performance.now();
    if (bufferedAmount <= STUCK) this.flowed = now;
    return now - this.flowed > STUCK_MS;
  }

  say(order) { if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(order)); }

  // What a broken line had taken and the server has not named is lost.
  miss() {
    if (this.wanted) { this.unsent += this.here - this.got; this.passed -= this.here - this.got; }
    this.here = this.got = 0;
  }

  drop() {
    const { socket } = this;
    if (socket) this.miss();
    this.socket = null;
    if (socket) { socket.onclose = socket.onmessage = null; socket.close(); }
  }

  close() {
    this.wanted = false;
    clearTimeout(this.timer);
    clearInterval(this.watch);
    this.watch = null;
    this.drop();
    this.tell();
  }
}

const line = new Line();
onmessage = ({ data: { does, values } }) => line[does](...values);
