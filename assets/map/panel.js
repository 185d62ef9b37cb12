// One space: its points on one canvas, what stands out on another above it.

const REACH = 14; // px from the pointer to a point that it means
const TURN = Math.PI * 2;

class Panel {
  constructor(map, index) {
    Object.assign(this, { map, index });
    this.base = h('canvas', { class: 'base' });
    this.over = h('canvas', { class: 'over', tabindex: '0', role: 'img' });
    this.caption = h('figcaption', {});
    this.tip = h('div', { class: 'tip', hidden: '', role: 'status' });
    this.element = h('figure', {}, this.caption, h('div', { class: 'frame' }, this.base, this.over, this.tip));
    this.listen();
  }

  take(panel, alt) {
    this.role = panel.role;
    this.caption.replaceChildren(h('b', {}, panel.role), ` · ${panel.note}`);
    this.over.setAttribute('aria-label', `${alt}: ${panel.role}. Arrow keys go from point to point, Enter chooses.`);
    this.xy = numbers(panel.xy, Float32Array);
    this.range = panel.range;
    this.star = panel.star;
  }

  // The window of the data, then what the hand made of it; the same turn for every panel.
  measure() {
    const width = this.base.clientWidth, height = this.base.clientHeight, { zoom, dx, dy } = this.map.view;
    const [x0, x1, y0, y1] = this.range;
    const scale = zoom * Math.min(width / (x1 - x0), height / (y1 - y0));
    Object.assign(this, { width, height, scale });
    this.left = width / 2 + dx * width - scale * (x0 + x1) / 2;
    this.top = height / 2 + dy * height + scale * (y0 + y1) / 2;
  }

  at(row) { return [this.left + this.scale * this.xy[2 * row], this.top - this.scale * this.xy[2 * row + 1]]; }

  pen(canvas) {
    const ratio = window.devicePixelRatio || 1, wide = Math.round(this.width * ratio), high = Math.round(this.height * ratio);
    if (canvas.width !== wide || canvas.height !== high) { canvas.width = wide; canvas.height = high; }
    const pen = canvas.getContext('2d');
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    return pen;
  }

  draw() {
    if (!this.base.clientWidth) return; // not on the screen yet
    this.measure();
    const pen = this.pen(this.base), { sprites, grey, order, group, bright, hidden } = this.map;
    const stamp = (row, { stamp: picture, half }) => {
      const x = this.left + this.scale * this.xy[2 * row], y = this.top - this.scale * this.xy[2 * row + 1];
      if (x > -half && y > -half && x < this.width + half && y < this.height + half) pen.drawImage(picture, x - half, y - half, 2 * half, 2 * half);
    };
    if (bright) for (const row of order) if (!bright[row]) stamp(row, grey);
    for (const row of order) if ((!bright || bright[row]) && !hidden.has(group[row])) stamp(row, sprites[group[row]]);
    this.mark();
  }

  // Star, rings and lasso: cheap, so that they follow the hand.
  mark() {
    if (!this.width) return;
    const pen = this.pen(this.over), { colors, chosen, hover, loop } = this.map;
    if (chosen != null && this.star.length) {
      pen.strokeStyle = colors[this.role] || colors.ink;
      pen.globalAlpha = 0.75;
      pen.lineWidth = 2;
      pen.beginPath();
      for (const row of this.star) { pen.moveTo(...this.at(chosen)); pen.lineTo(...this.at(row)); }
      pen.stroke();
      pen.globalAlpha = 1;
    }
    if (chosen != null) this.ring(pen, chosen, 11, 3);
    if (hover != null) this.ring(pen, hover, 9, 2);
    if (loop?.panel === this && loop.path.length > 1) {
      pen.beginPath();
      for (const [x, y] of loop.path) pen.lineTo(x, y);
      pen.closePath();
      pen.fillStyle = colors.ink; pen.globalAlpha = 0.08; pen.fill();
      pen.globalAlpha = 0.8; pen.strokeStyle = colors.ink; pen.lineWidth = 1.5; pen.setLineDash([5, 4]); pen.stroke();
      pen.setLineDash([]); pen.globalAlpha = 1;
    }
  }

  ring(pen, row, radius, width) {
    for (const [colour, wide] of [[this.map.colors.paper, width + 3], [this.map.colors.ink, width]]) {
      pen.strokeStyle = colour; pen.lineWidth = wide;
      pen.beginPath(); pen.arc(...this.at(row), radius, 0, TURN); pen.stroke();
    }
  }

  nearest(x, y) {
    let best = REACH * REACH, found = null;
    for (let row = 0; row < this.map.n; row++) {
      const px = this.left + this.scale * this.xy[2 * row] - x, py = this.top - this.scale * this.xy[2 * row + 1] - y;
      const far = px * px + py * py;
      if (far < best && !this.map.hidden.has(this.map.group[row])) { best = far; found = row; }
    }
    return found;
  }

  // The nearest point in the direction of an arrow key: far ahead counts less than far aside.
  beside(from, ahead, aside) {
    const [x, y] = this.at(from);
    let best = Infinity, found = from;
    for (let row = 0; row < this.map.n; row++) {
      if (row === from || this.map.hidden.has(this.map.group[row])) continue;
      const [px, py] = this.at(row), on = (px - x) * ahead[0] + (py - y) * ahead[1];
      const off = Math.abs((px - x) * aside[0] + (py - y) * aside[1]);
      if (on > 0.5 && on + 2 * off < best) { best = on + 2 * off; found = row; }
    }
    return found;
  }

  inside(path) {
    const found = [];
    for (let row = 0; row < this.map.n; row++) {
      if (this.map.hidden.has(this.map.group[row])) continue;
      const [x, y] = this.at(row);
      let odd = false;
      for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
        const [xi, yi] = path[i], [xj, yj] = path[j];
        if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
      }
      if (odd) found.push(row);
    }
    return found;
  }

  tell(row) {
    this.tip.hidden = row == null;
    if (row == null) return;
    const [x, y] = this.at(row);
    this.tip.replaceChildren(this.map.names[row] ?? '', h('span', {}, this.map.groups[this.map.group[row]].name));
    this.tip.style.left = `${Math.min(Math.max(x, 8), this.width - 8)}px`;
    this.tip.style.top = `${y}px`;
    this.tip.className = `tip ${x > this.width / 2 ? 'before' : 'after'}`;
  }

  where(event) {
    const box = this.over.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  listen() {
    const over = this.over, map = this.map;
    let from = null;
    over.onpointerdown = (event) => {
      if (event.button) return;
      over.setPointerCapture(event.pointerId);
      from = { at: this.where(event), view: { ...map.view }, moved: false, lasso: map.lasso !== event.shiftKey };
    };
    over.onpointermove = (event) => {
      const [x, y] = this.where(event);
      if (!from) { map.point(this, this.nearest(x, y)); return; }
      const [fx, fy] = from.at;
      if (!from.moved && Math.hypot(x - fx, y - fy) < 4) return;
      from.moved = true;
      if (from.lasso) map.around(this, [...(map.loop?.path || [from.at]), [x, y]]);
      else map.turn({ ...from.view, dx: from.view.dx + (x - fx) / this.width, dy: from.view.dy + (y - fy) / this.height });
    };
    over.onpointerup = (event) => {
      if (!from) return;
      const { moved, lasso } = from;
      from = null;
      if (!moved) map.choose(this.nearest(...this.where(event)));
      else if (lasso) map.close();
    };
    over.onpointercancel = () => { from = null; map.around(null, []); };
    over.onpointerleave = () => map.point(null, null);
    over.ondblclick = () => map.turn(null);
    over.addEventListener('wheel', (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // the page scrolls as everywhere
      event.preventDefault();
      map.zoom(Math.exp(-event.deltaY / 200), this.where(event), this);
    }, { passive: false });
    over.onkeydown = (event) => this.key(event);
    over.onblur = () => map.point(null, null);
  }

  key(event) {
    const ways = { ArrowLeft: [[-1, 0], [0, 1]], ArrowRight: [[1, 0], [0, 1]], ArrowUp: [[0, -1], [1, 0]], ArrowDown: [[0, 1], [1, 0]] };
    const map = this.map, here = map.hover ?? map.chosen, middle = [this.width / 2, this.height / 2];
    if (event.key in ways && map.n) map.point(this, here == null ? map.middle(this) : this.beside(here, ...ways[event.key]));
    else if (event.key === 'Enter' && map.hover != null) map.choose(map.hover);
    else if (event.key === 'Escape') map.point(null, null);
    else if (event.key === '+' || event.key === '=') map.zoom(1.25, middle, this);
    else if (event.key === '-') map.zoom(0.8, middle, this);
    else if (event.key === '0') map.turn(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
