// The linked maps: what is pointed at, chosen or lassoed in one panel stands out in every panel.

const STILL = { zoom: 1, dx: 0, dy: 0 };

class Maps {
  constructor(host) {
    this.view = { ...STILL };
    this.hidden = new Set();
    this.panels = [];
    this.frames = h('div', { class: 'panels' });
    this.legend = h('div', { class: 'legend' });
    this.home = h('button', { hidden: '', onclick: () => this.turn(null) }, 'whole map');
    const tools = h('div', { class: 'tools' }, this.home,
      h('button', { title: 'download as SVG', onclick: () => download(this, 'svg') }, 'SVG'),
      h('button', { title: 'download as PNG', onclick: () => download(this, 'png') }, 'PNG'));
    this.element = h('div', { class: 'maps' }, this.frames, h('div', { class: 'foot' }, this.legend, tools));
    // where a point is on the screen and what stands out: for tests, and who automates the page
    this.element.rows = () => this.n;
    this.element.shown = () => ({
      chosen: this.chosen ?? null, bright: this.bright ? this.bright.reduce((sum, one) => sum + one, 0) : this.n,
      stars: this.panels.map((panel) => panel.star.length),
    });
    this.element.place = (panel, row) => {
      const box = this.panels[panel].over.getBoundingClientRect(), [x, y] = this.panels[panel].at(row);
      return { x: box.left + x, y: box.top + y };
    };
    host.append(this.element);
    this.sized = new ResizeObserver(() => this.draw());
    this.sized.observe(this.frames);
  }

  take(data, say) {
    this.say = say;
    if (data.stamp !== this.stamp) { this.hidden.clear(); this.view = { ...STILL }; this.home.hidden = true; this.hover = null; }
    Object.assign(this, {
      stamp: data.stamp, file: data.file, names: data.names, groups: data.groups, colors: data.colors,
      lasso: data.lasso, dim: data.dim, chosen: data.chosen, loop: null, n: data.n,
    });
    this.group = numbers(data.group, Uint8Array);
    this.order = numbers(data.order, Int32Array);
    this.bright = data.marked && new Uint8Array(this.n);
    for (const row of data.marked || []) this.bright[row] = 1;
    while (this.panels.length > data.panels.length) this.panels.pop().element.remove();
    data.panels.forEach((panel, i) => {
      if (!this.panels[i]) { this.panels[i] = new Panel(this, i); this.frames.append(this.panels[i].element); }
      this.panels[i].take(panel, data.alt);
      this.panels[i].element.className = panel.role;
    });
    this.element.style.setProperty('--height', `${data.height}px`);
    this.element.classList.toggle('lasso', data.lasso);
    this.radius = data.radius;
    this.stamps();
    this.keys();
    this.draw();
  }

  stamps() {
    const ratio = this.ratio = window.devicePixelRatio || 1, rim = this.n <= 5000 ? this.colors.paper : null;
    this.sprites = this.groups.map((one) => sprite(one.symbol, one.colour, this.radius, 0.9, rim, ratio));
    this.grey = sprite('circle', this.colors.quiet, this.radius, 0.35, null, ratio);
  }

  keys() {
    const rows = this.groups.length > 1 || this.groups[0]?.listed ? this.groups : [];
    this.legend.replaceChildren(...rows.map((one, i) => h('button', {
      'aria-pressed': String(!this.hidden.has(i)), title: 'hide or show; double-click for this one alone',
      onclick: () => this.hide(i), ondblclick: () => this.alone(i),
    }, icon(one.symbol, one.colour), one.name)));
  }

  hide(i) {
    if (!this.hidden.delete(i)) this.hidden.add(i);
    this.keys(); this.draw();
  }

  alone(i) {
    const others = this.groups.map((_, k) => k).filter((k) => k !== i);
    const already = others.every((k) => this.hidden.has(k)) && !this.hidden.has(i);
    this.hidden = new Set(already ? [] : others);
    this.keys(); this.draw();
  }

  draw() {
    if (!this.group) return;
    if (this.ratio !== (window.devicePixelRatio || 1)) this.stamps();
    for (const panel of this.panels) panel.draw();
  }

  mark() { for (const panel of this.panels) panel.mark(); }

  point(panel, row) {
    if (row === this.hover && panel === this.over) return;
    this.hover = row;
    this.over = panel;
    for (const one of this.panels) one.tell(one === panel ? row : null);
    this.element.classList.toggle('meant', row != null);
    this.mark();
  }

  middle(panel) { return panel.nearest(panel.width / 2, panel.height / 2) ?? this.order[0]; }

  // The screen answers at once; the neighbours come with the server's answer.
  choose(row) {
    if (row == null) return;
    this.chosen = row;
    for (const panel of this.panels) panel.star = [];
    if (this.dim) { this.bright = new Uint8Array(this.n); this.bright[row] = 1; }
    this.draw();
    this.say({ rows: [row], group: false });
  }

  around(panel, path) { this.loop = panel && { panel, path }; this.mark(); }

  close() {
    if (!this.loop) return;
    const rows = this.loop.panel.inside(this.loop.path);
    this.loop = null;
    if (!rows.length) { this.mark(); return; }
    this.chosen = null;
    this.bright = new Uint8Array(this.n);
    for (const row of rows) this.bright[row] = 1;
    this.draw();
    this.say({ rows, group: true });
  }

  turn(view) {
    this.view = view || { ...STILL };
    this.home.hidden = this.view.zoom === 1 && !this.view.dx && !this.view.dy;
    this.draw();
  }

  zoom(by, [x, y], panel) {
    const { zoom, dx, dy } = this.view, to = Math.min(Math.max(zoom * by, 0.5), 60), k = to / zoom;
    const px = x / panel.width - 0.5, py = y / panel.height - 0.5;
    this.turn({ zoom: to, dx: px - k * (px - dx), dy: py - k * (py - dy) });
  }

  end() { this.sized.disconnect(); this.element.remove(); }
}

const shown = new WeakMap();

export default function mount(component) {
  const { parentElement, data, setTriggerValue } = component;
  let maps = shown.get(parentElement);
  if (!maps) { maps = new Maps(parentElement); shown.set(parentElement, maps); }
  clearTimeout(maps.leaving);
  maps.take(data, (what) => setTriggerValue('chosen', what));
  // a rerun may unmount and mount again at once: only maps that stay away let go
  return () => { maps.leaving = setTimeout(() => { maps.end(); shown.delete(parentElement); }, 400); };
}
