// The live panel: one object a mounted component; reruns of the page only bring new data.

const panels = new Map();
const TICK_MS = 66;  // strips and meter move this often: drawing takes the processor from the encoders

// What a tab keeps over a reload: whose voices are its own, and whether it listened.
const LISTENED = 'refine.live.listened', OWNER = 'refine.live.owner';
function keep(name, value) { try { value ? sessionStorage.setItem(name, value) : sessionStorage.removeItem(name); } catch { /* storage is off */ } }
function kept(name) { try { return sessionStorage.getItem(name); } catch { return null; } }

export default function (component) {
  const { parentElement } = component;
  let panel = panels.get(parentElement);
  if (!panel) { panel = new Panel(parentElement); panels.set(parentElement, panel); }
  clearTimeout(panel.leaving);
  panel.update(component);
  // a rerun may unmount and mount again at once: only a panel that stays away lets go
  return () => { panel.leaving = setTimeout(() => { panel.end(); panels.delete(parentElement); }, 400); };
}

class Panel {
  constructor(root) {
    this.bars = {}; this.spaces = {}; this.traces = {}; this.names = {};
    this.roles = ['before', 'after']; this.now = 0; this.colors = null; this.voices = [];
    this.stats = { seen: [], transport: [], capture: [], queue: [], model: [], place: [], draw: [], confirmed: [], total: [], labels: [], answers: 0, dropped: 0, lost: 0, unsent: 0, passed: 0, sent: 0, heard: 0 };
    window.refineLive = this.stats;  // read by the benchmark and the tests
    this.button = h('button', { class: 'listen', onclick: () => this.toggle() }, 'Listen');
    this.light = h('span', { class: 'light', role: 'img', 'aria-label': 'nobody speaks' });
    this.meter = h('i');
    this.heard = h('span', { class: 'heard', 'aria-live': 'polite' }, '');
    this.state = h('span', { class: 'state' }, '');
    this.delay = h('span', { class: 'delay', title: 'from the last sample of a window to its answer on the screen' }, '');
    this.problem = h('p', { class: 'problem', hidden: '', role: 'alert' });
    this.notice = h('p', { class: 'notice', hidden: '', role: 'status' });
    this.grid = h('div', { class: 'grid' });
    this.maps = h('div', { class: 'maps' });
    this.people = h('div', { class: 'grid' });
    this.body = h('div', { class: 'live' },
      h('div', { class: 'desk' }, this.button, this.light, h('div', { class: 'meter', role: 'img', 'aria-label': 'level' }, this.meter), this.heard, this.state, this.delay),
      this.problem, this.notice, this.grid, this.maps, this.people);
    root.append(this.body);
    this.line = new Line({
      open: () => this.tell(null), message: (message, at) => this.take(message, at),
      lost: (text) => { this.tell(text, 'problem'); }, refused: (text) => { this.stop(); this.tell(text, 'problem'); },
      counted: () => this.counted(), unknown: () => this.component.setTriggerValue('renew', Date.now()),
    });
    this.peak = 0;
    this.changed = () => this.look();
    navigator.mediaDevices?.addEventListener?.('devicechange', this.changed);
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.body);
  }

  update(component) {
    this.component = component;
    const { data } = component, before = this.data;
    this.data = data;
    Object.assign(this, { roles: data.roles, names: data.names, colors: data.colors, cloud: data.cloud });
    for (const [name, value] of Object.entries(data.colors)) if (typeof value === 'string') this.body.style.setProperty(`--${name}`, value);
    if (!before || before.token !== data.token || before.pair !== data.pair) this.clearHeads();
    if (!before || JSON.stringify(before.cloud) !== JSON.stringify(data.cloud)) this.buildMaps();
    if (this.wanted && before && (before.source !== data.source)) this.stop();
    if (this.wanted && before && before.token !== data.token) this.connect();
    if (data.replay && (!before || before.replay_id !== data.replay_id)) this.replay(data.replay);
    this.button.hidden = data.source === 'record';
    if (!before && kept(LISTENED)) {  // the microphone is not opened again behind anybody's back
      keep(LISTENED, null);
      this.tell('The page was loaded again, so the microphone is off. Press Listen to go on; enrolled voices are still there.');
    }
    this.look();
    this.draw();
    if (data.play && (!before || before.play !== data.play) && !this.wanted) this.start();
  }

  async look() {
    if (this.wanted || !this.data) return;
    const text = this.data.source === 'browser' ? await obstacle() : null;
    this.button.disabled = !!text;
    this.show(this.problem, text);
  }

  toggle() { this.wanted ? this.stop(true) : this.start(); }

  async start() {
    const { source } = this.data;
    this.tell(null);
    this.wanted = true;
    this.now = 0;  // the clock of the stream begins anew, and so does all that is drawn over it
    for (const one of [...Object.values(this.bars), ...Object.values(this.traces)]) one.past = [];
    this.button.textContent = 'Stop'; this.button.classList.add('on');
    this.state.textContent = 'starting …';
    if (source === 'browser' && !(await this.plug())) return;
    this.connect();
    this.watching ??= setInterval(() => this.microphone?.still && this.unplugged('No sound comes from the microphone any more; opening it again.'), 500);
    this.ticking ??= setInterval(() => requestAnimationFrame(() => this.tick()), TICK_MS);
  }

  counted() { this.stats.unsent = this.line.unsent; this.stats.passed = this.line.passed; }

  connect() {
    const { path, token, source } = this.data;
    this.line.open(path, token, source, kept(OWNER));
    keep(OWNER, token);
    keep(LISTENED, 'yes');
  }

  async plug() {
    this.microphone = new Microphone(
      this.line, (peak) => { this.stats.sent += 1; this.counted(); this.peak = Math.max(this.peak, peak); }, () => this.unplugged());
    const opened = this.microphone;
    try { await opened.open(); } catch (error) {
      if (this.microphone === opened) { this.stop(); this.tell(explained(error), 'problem'); }
      return false;
    }
    if (this.wanted && this.microphone === opened) return true;
    opened.close();  // stopped, or gone to another page, while the browser asked
    return false;
  }

  unplugged(text = 'The microphone was unplugged. Plug it in again: listening goes on by itself.') {
    this.microphone?.close();
    this.tell(text, 'problem');
    let over = false;
    const end = () => { over = true; navigator.mediaDevices.removeEventListener('devicechange', again); };
    const again = async () => {
      if (!this.wanted) end();
      const devices = over ? [] : await navigator.mediaDevices.enumerateDevices();
      if (over || !devices.some((device) => device.kind === 'audioinput')) return;
      end();
      if (await this.plug()) this.tell(null);
    };
    navigator.mediaDevices.addEventListener('devicechange', again);
    setTimeout(again, 300);
  }

  stop(told = false) {
    this.wanted = false;
    this.microphone?.close();
    this.microphone = null;
    this.line.close();
    clearInterval(this.ticking);
    clearInterval(this.watching);
    this.watching = null;
    keep(LISTENED, null);
    this.ticking = null;
    this.button.textContent = 'Listen'; this.button.classList.remove('on');
    this.light.className = 'light'; this.meter.style.width = '0';
    this.state.textContent = '';
    if (told) this.component.setTriggerValue('stopped', Date.now());
  }

  end() {
    this.stop();
    this.line.end();
    navigator.mediaDevices?.removeEventListener?.('devicechange', this.changed);
    this.resized.disconnect();
    this.body.remove();
  }

  take(message, at) {
    if (message.lost) this.stats.lost = message.lost;
    switch (message.type) {
      case 'level':
        this.now = this.stats.heard = message.at / 16000;
        this.clock = performance.now();
        if (this.data.source !== 'browser') this.peak = Math.max(this.peak, message.peak);
        if (message.heard_s) write(this.heard, `heard ${message.heard_s.toFixed(1)} s of speech`);
        if (this.light.classList.contains('speech') === message.speech) break;
        this.light.classList.toggle('speech', message.speech);
        this.light.setAttribute('aria-label', message.speech ? 'somebody speaks' : 'nobody speaks');
        break;
      case 'refused':
        write(this.state, message.reason);
        this.state.dataset.kind = message.kind;
        break;
      case 'answer': this.answer(message, at); break;
      case 'state':
        this.loaded = this.stats.ready = message.state === 'ready';
        this.state.textContent = this.loaded ? 'listening' : message.text || '';
        if (this.loaded) this.build(message.heads);
        if (message.state === 'failed') { this.stop(); this.tell(message.text, 'problem'); }
        break;
      case 'voices': this.people_(message); break;
      case 'source': this.tell(message.text, message.failed ? 'problem' : 'notice'); if (message.failed) this.stop(); break;
      case 'played': setTimeout(() => this.wanted && this.stop(true), 600); break;
      case 'error': this.tell(message.text, 'notice'); break;
    }
  }

  answer(message, at) {
    const { latency, stamp, answers } = message;
    this.now = Math.max(this.now, message.end);
    this.clock = performance.now();
    this.state.textContent = '';
    for (const [factor, said] of Object.entries(answers)) this.bars[factor]?.show(said, message);
    for (const [role, spot] of Object.entries(message.place || {})) this.spaces[role]?.move(spot, this.cloud?.clips);
    for (const [name, spot] of Object.entries(message.subspaces || {})) this.spaces[`:${name}`]?.move(spot, this.cloud?.clips);
    for (const [role, heard] of Object.entries(message.voices || {})) this.traces[role]?.show(heard, message.end);
    if (message.enrolling) this.enrolling(message.enrolling);
    if (message.challenge) this.challenge(message.challenge);
    this.stats.answers += 1;
    this.stats.dropped = message.dropped;
    const said = Object.fromEntries(Object.entries(answers).map(([f, roles]) => [f, Object.fromEntries(Object.entries(roles).map(([r, a]) => [r, a.label]))]));
    this.stats.labels.push({ at: message.end, start: message.start, final: message.final, said });
    // the utterance is over: what was said about all of it stands, and nothing new was heard
    const again = message.final && message.end === this.told;
    this.told = message.end;
    const done = () => {
      if (this.data.source !== 'browser' || !stamp) return;
      const seen = Date.now() - stamp + latency.capture, transport = at - stamp - latency.queue - latency.model - latency.place;
      for (const [name, value] of Object.entries({ [again ? 'confirmed' : 'seen']: seen, transport, draw: Date.now() - at, ...latency })) this.stats[name].push(value);
      for (const [name, list] of Object.entries(this.stats)) if (list.length > (name === 'labels' ? 500 : 2000)) list.shift();  // a quarter of an hour: a page must not grow
      const lost = this.stats.lost + this.stats.unsent;
      const sorted = this.stats.seen.slice(-60).sort((a, b) => a - b);
      this.delay.textContent = `answers after ${Math.round(sorted[sorted.length >> 1])} ms` + (message.dropped ? ` · ${message.dropped} window${message.dropped === 1 ? '' : 's'} dropped` : '') + (lost ? ` · ${(0.02 * lost).toFixed(1)} s of sound lost` : '');
    };
    if (document.hidden) done(); else requestAnimationFrame(() => { this.draw(); done(); });
  }

  level(peak) {
    const decibel = 20 * Math.log10(Math.max(peak, 1e-4));
    const width = `${Math.round(Math.max(0, Math.min(100, (100 * (decibel + 60)) / 60)))}%`;
    if (this.meter.style.width !== width) this.meter.style.width = width;
    this.meter.classList.toggle('loud', peak >= 0.999);
  }

  clearHeads() { this.grid.replaceChildren(); this.bars = {}; this.key = null; }

  build(heads) {
    const key = JSON.stringify(heads);
    if (key === this.key) return;
    this.clearHeads();
    this.key = key;
    for (const [factor, found] of Object.entries(heads)) {
      this.bars[factor] = new Bars(factor, found, this);
      this.grid.append(this.bars[factor].element);
    }
  }

  // What the answers were learned from; two heads of one factor may know different ones.
  hint(factor, heads) {
    const told = ({ labels, corpus }) => `${labels.length} answers, learned from ${corpus}` + (this.data.hints?.[corpus] ? `: ${this.data.hints[corpus]}` : '');
    const every = Object.entries(heads), alike = new Set(every.map(([, head]) => `${head.corpus} ${head.labels}`)).size < 2;
    if (alike) return told(every[0][1]);
    return every.map(([role, head]) => `${role}: ${told(head)}`).join('. ') + '. They know different answers: compare each with the truth, not with the other.';
  }

  buildMaps() {
    this.maps.replaceChildren();
    this.spaces = {};
    const cloud = this.cloud;
    if (!cloud) return;
    const range = (all) => [0, 1].flatMap((axis) => { const v = all.map((p) => p[axis]); return [Math.min(...v), Math.max(...v)]; });
    const both = range(Object.values(cloud.points).flat());
    for (const [role, points] of Object.entries(cloud.points)) this.spaces[role] = new Space(role, this.names[role] || role, points, this, both);
    for (const [name, points] of Object.entries(cloud.subspaces || {})) this.spaces[`:${name}`] = new Space('after', `${name} subspace`, points, this, range(points));
    this.maps.append(...Object.values(this.spaces).map((space) => space.element));
  }

  choose(i) { this.component.setTriggerValue('chosen', i); }

  people_(news) {
    this.voices = news.names;
    if (!this.roster) {
      this.who = h('input', { placeholder: 'a name', 'aria-label': 'name of the voice', maxlength: 40 });
      this.enrol = h('button', { onclick: () => this.line.say({ type: 'enrol', name: this.who.value }) }, 'Enrol');
      this.progress = h('p', { class: 'hint' });
      this.roster = h('div', { class: 'roster' });
      this.kept = h('input', { type: 'checkbox', onchange: () => this.line.say({ type: 'save', keep: this.kept.checked }) });
      for (const role of this.roles) this.traces[role] = new Trace(role, this);
      this.asked = h('p', { class: 'ask' });
      this.score = h('div');
      this.game = h('button', { onclick: () => this.line.say({ type: 'challenge', on: true }) }, 'Begin');
      this.people.replaceChildren(
        h('section', { class: 'card', 'data-card': 'voices' }, h('h3', {}, 'Voices by name'),
          h('p', { class: 'hint' }, 'Give a name, press Enrol, and speak three times for 3 s. Voices live in memory and are gone with the server.'),
          h('div', { class: 'row' }, this.who, this.enrol, h('button', { class: 'link', onclick: () => this.line.say({ type: 'forget' }) }, 'forget all')),
          this.progress, this.roster, h('div', { class: 'columns' }, ...this.roles.map((role) => this.traces[role].element)),
          h('label', { class: 'hint' }, this.kept, ' keep on this computer: the names and a few vectors of numbers each, no sound')),
        h('section', { class: 'card', 'data-card': 'challenge' }, h('h3', {}, 'Challenge: which one stays?'),
          h('p', { class: 'hint' }, 'One word, the word in another voice, another word. What moved further in each space?'), this.asked, this.score, h('div', { class: 'row' }, this.game)));
    }
    this.kept.checked = news.saved;
    this.roster.replaceChildren(...news.names.map((name, i) => h('span', { class: 'voice' },
      h('i', { style: `background:${this.colors.palette[i % this.colors.palette.length]}` }), name,
      h('button', { class: 'link', title: `delete ${name}`, onclick: () => this.line.say({ type: 'delete', name }) }, '×'))));
    for (const role of this.roles) if (this.traces[role]) {
      this.traces[role].threshold = news.threshold[role] || null;
      if (!news.names.length) { this.traces[role].past = []; this.traces[role].name.textContent = '–'; this.traces[role].note.textContent = ''; }
    }
    this.enrolling(news.enrolling);
    this.challenge(news.challenge);
  }

  enrolling(one) {
    if (!this.progress) return;
    this.progress.textContent = one ? `Speak, ${one.name}: part ${one.piece} of ${one.pieces}, ${one.heard.toFixed(1)} of ${one.needed} s` : '';
  }

  challenge(game) {
    if (!this.asked) return;
    this.game.textContent = game ? 'Begin again' : 'Begin';
    this.asked.textContent = game ? game.ask : '';
    if (!game?.moved) { this.score.replaceChildren(); return; }
    const rows = Object.entries(game.moved).map(([name, moved]) => h('p', {}, h('b', {}, this.names[name] || name),
      `: another voice moved it ${moved.voice.toFixed(2)}, another word ${moved.word.toFixed(2)}`));
    if (game.of) rows.push(h('p', { class: 'label' }, `${game.points} of ${game.of}`));
    this.score.replaceChildren(...rows);
  }

  replay(messages) { for (const message of messages) this.take(message, Date.now()); this.state.textContent = ''; this.draw(); }

  // What moves by itself. The maps stand still between two answers.
  tick() {
    if (!this.colors || !this.wanted) return;
    this.level(this.peak);
    this.peak = 0;
    this.strips();
  }

  strips() {
    const now = this.now + (this.wanted && this.clock ? Math.min(0.5, (performance.now() - this.clock) / 1000) : 0);
    for (const bars of Object.values(this.bars)) bars.draw(now);
    for (const trace of Object.values(this.traces)) trace.draw(now, this.voices);
  }

  draw() {
    if (!this.colors) return;
    this.strips();
    for (const space of Object.values(this.spaces)) space.draw();
  }

  tell(text, kind = 'notice') {
    if (text === null) { this.show(this.problem, null); this.show(this.notice, null); return; }
    this.show(kind === 'problem' ? this.problem : this.notice, text);
  }

  show(element, text) { element.textContent = text || ''; element.hidden = !text; }
}
