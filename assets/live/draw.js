// Drawing: bars, strips, maps and traces. Canvases are as sharp as the screen.

// Text that stays the same is not written again: the browser would lay the page out anew.
function write(element, text) { if (element.textContent !== text) element.textContent = text; }

function ready(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext('2d');
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return [pen, width, height];
}

const TOP = 5, STRIP_S = 20;

// One head, both encoders: the label in words, the most probable classes as bars.
class Bars {
  constructor(factor, heads, view) {
    this.factor = factor; this.heads = heads; this.view = view;
    this.past = [];
    this.columns = {};
    const columns = view.roles.map((role) => this.column(role));
    this.strip = h('canvas', { class: 'strip', role: 'img', 'aria-label': `what was said about ${factor}, over time` });
    this.axis = h('div', { class: 'axis' }, h('span', {}, '20 s ago'), h('span', {}, 'now'));
    this.element = h('section', { class: 'card', 'data-factor': factor },
      h('h3', {}, factor), h('p', { class: 'hint' }, view.hint(factor, heads)),
      h('div', { class: 'columns' }, ...columns), this.strip, this.axis);
  }

  column(role) {
    const head = this.heads[role];
    const label = h('div', { class: 'label', 'data-role': role }, '–');
    const rows = [];
    const list = h('div', { class: 'bars' });
    if (head) for (let i = 0; i < Math.min(TOP, head.labels.length); i++) {
      const name = h('span', { class: 'name' }), fill = h('i'), value = h('span', { class: 'value' });
      rows.push({ name, fill, value });
      list.append(h('div', { class: 'bar' }, name, h('b', {}, fill, h('u', { style: `left:${100 * head.threshold}%` })), value));
    } else list.append(h('p', { class: 'hint' }, 'no head for this is fitted yet'));
    this.columns[role] = { label, rows, head };
    return h('div', { class: `column ${role}` }, h('div', { class: 'role' }, this.view.names[role] || role), label, list);
  }

  show(answers, message) {
    const row = { at: message.end, start: message.start, final: message.final };
    for (const [role, answer] of Object.entries(answers)) {
      const { label, rows, head } = this.columns[role] || {};
      if (!head) continue;
      write(label, answer.unsure ? 'unsure' : answer.label);
      label.classList.toggle('unsure', answer.unsure);
      label.title = answer.unsure ? `perhaps ${answer.label} (${Math.round(100 * answer.probability)} %)` : '';
      const ranked = answer.probabilities.map((p, i) => [p, head.labels[i]]).sort((a, b) => b[0] - a[0]);
      rows.forEach((parts, i) => {
        const [p, name] = ranked[i];
        write(parts.name, name);
        parts.fill.style.width = `${Math.round(100 * p)}%`;
        write(parts.value, `${Math.round(100 * p)} %`);
      });
      row[role] = { label: answer.label, index: head.labels.indexOf(answer.label), unsure: answer.unsure };
    }
    this.past.push(row);
  }

  // A lane an encoder; what it said, until it said something else.
  draw(now) {
    while (this.past.length && this.past[0].at < now - STRIP_S - 1) this.past.shift();
    if (!this.past.length && this.blank) return;
    this.blank = !this.past.length;
    const [pen, width, height] = ready(this.strip);
    const lane = height / this.view.roles.length, x = (t) => width * (1 - (now - t) / STRIP_S);
    this.view.roles.forEach((role, place) => {
      const top = place * lane;
      pen.globalAlpha = 0.25;
      pen.fillStyle = this.view.colors.quiet;
      pen.fillRect(0, top + lane / 2 - 0.5, width, 1);
      let written = -Infinity;
      this.past.forEach((row, i) => {
        const said = row[role];
        if (!said) return;
        const next = this.past[i + 1];
        const end = next && next.at - row.at < 0.7 ? next.at : row.at + 0.12;
        pen.globalAlpha = said.unsure ? 0.28 : 0.95;
        pen.fillStyle = this.view.colors.palette[said.index % this.view.colors.palette.length];
        pen.fillRect(x(row.at), top + 4, Math.max(2, x(end) - x(row.at) - 1), lane - 18);
        if (!row.final || said.unsure) return;
        pen.font = '12px sans-serif';
        const left = x(end) - pen.measureText(said.label).width;
        if (left < Math.max(0, written)) return;  // no room for this word
        pen.globalAlpha = 1;
        pen.fillStyle = this.view.colors.ink;
        pen.fillText(said.label, left, top + lane - 3);
        written = x(end) + 8;
      });
    });
    pen.globalAlpha = 1;
  }
}

// The clips of a corpus standing still, the voice moving, its trail fading.
class Space {
  constructor(role, title, points, view, range) {
    Object.assign(this, { role, points, view, trail: [], range });
    this.canvas = h('canvas', { class: 'space', role: 'img', 'aria-label': `map: ${title}` });
    this.near = h('div', { class: 'near' });
    this.element = h('figure', { class: role }, h('figcaption', {}, title), this.canvas, this.near);
  }

  move(spot, clips) {
    this.trail.push([spot.x, spot.y]);
    if (this.trail.length > 24) this.trail.shift();
    const key = spot.near.join();
    if (!clips || key === this.key) return;
    this.key = key;
    this.near.replaceChildren('nearest: ', ...spot.near.map((i) => h('button', {
      class: 'link', title: 'play this clip', onclick: () => this.view.choose(i),
    }, clips[i] || '')));
  }

  // The clips stand still: drawn once for a size and its colours, then copied.
  ground(width, height, at) {
    const colors = this.view.colors, groups = this.view.cloud?.groups || [];
    const key = [width, height, window.devicePixelRatio, colors.quiet, colors.palette].join();
    if (this.drawn === key) return this.still;
    this.drawn = key;
    this.still = document.createElement('canvas');
    this.still.width = this.canvas.width; this.still.height = this.canvas.height;
    const pen = this.still.getContext('2d'), ratio = window.devicePixelRatio || 1;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.globalAlpha = 0.5;
    this.points.forEach((point, i) => {
      const [x, y] = at(point);
      pen.fillStyle = groups.length ? colors.palette[groups[i] % colors.palette.length] : colors.quiet;
      pen.beginPath(); pen.arc(x, y, 3, 0, 7); pen.fill();
    });
    return this.still;
  }

  draw() {
    const [pen, width, height] = ready(this.canvas);
    const [x0, x1, y0, y1] = this.range, scale = Math.min((width - 24) / (x1 - x0 || 1), (height - 24) / (y1 - y0 || 1));
    const at = ([x, y]) => [width / 2 + scale * (x - (x0 + x1) / 2), height / 2 - scale * (y - (y0 + y1) / 2)];
    const colors = this.view.colors;
    if (width && height) pen.drawImage(this.ground(width, height, at), 0, 0, width, height);
    const colour = this.role === 'before' ? colors.before : colors.after;
    this.trail.forEach((point, i) => {
      const age = (i + 1) / this.trail.length, [x, y] = at(point);
      if (i) {
        const [px, py] = at(this.trail[i - 1]);
        pen.globalAlpha = 0.55 * age; pen.strokeStyle = colour; pen.lineWidth = 2.5;
        pen.beginPath(); pen.moveTo(px, py); pen.lineTo(x, y); pen.stroke();
      }
    });
    const last = this.trail.at(-1);
    if (!last) return;
    const [x, y] = at(last);
    pen.globalAlpha = 1; pen.lineWidth = 3.5; pen.strokeStyle = colors.paper;
    pen.beginPath(); pen.arc(x, y, 11, 0, 7); pen.stroke();
    pen.beginPath(); pen.arc(x, y, 9, 0, 7);
    pen.strokeStyle = colour; pen.fillStyle = this.role === 'before' ? colors.paper : colour;
    pen.fill(); pen.stroke();
  }
}

// Scores of the enrolled voices over time, with the threshold.
class Trace {
  constructor(role, view) {
    Object.assign(this, { role, view, past: [], threshold: null });
    this.name = h('div', { class: 'label' }, '–');
    this.canvas = h('canvas', { class: 'trace', role: 'img', 'aria-label': 'scores of the enrolled voices over time' });
    this.note = h('p', { class: 'hint' });
    this.element = h('div', { class: `column ${role}` }, h('div', { class: 'role' }, view.names[role] || role), this.name, this.canvas, this.note);
  }

  show(heard, at) {
    this.name.textContent = heard.name || 'nobody enrolled';
    this.name.classList.toggle('unsure', !heard.name);
    this.past.push([at, heard.scores]);
    while (this.past[0][0] < at - STRIP_S) this.past.shift();
  }

  draw(now, names) {
    if (!this.past.length && !this.threshold && this.empty) return;
    this.empty = !this.past.length && !this.threshold;
    const [pen, width, height] = ready(this.canvas);
    const x = (t) => width * (1 - (now - t) / STRIP_S), y = (s) => height / 2 - s * (height / 2 - 6);
    if (this.threshold) {
      pen.strokeStyle = this.view.colors.ink; pen.globalAlpha = 0.5; pen.setLineDash([5, 4]);
      pen.beginPath(); pen.moveTo(0, y(this.threshold.value)); pen.lineTo(width, y(this.threshold.value)); pen.stroke();
      pen.setLineDash([]);
      const { value, own, other, errors } = this.threshold;
      write(this.note, `recognised from ${value.toFixed(2)}: set from ${own} scores of the enrolled against ` +
        `themselves and ${other} against others (${Math.round(100 * errors)} % of those on the wrong side)`);
    }
    pen.globalAlpha = 1;
    names.forEach((name, i) => {
      pen.strokeStyle = this.view.colors.palette[i % this.view.colors.palette.length];
      pen.lineWidth = 2; pen.beginPath();
      let last = -Infinity;
      for (const [t, scores] of this.past) {
        if (!(name in scores)) continue;
        if (t - last > 1) pen.moveTo(x(t), y(scores[name])); else pen.lineTo(x(t), y(scores[name]));
        last = t;
      }
      pen.stroke();
    });
  }
}
