// The maps as a file: SVG for print, PNG at twice the screen for slides.

const GAP = 24, HEAD = 34, ROW = 26, PAD = 16; // px

function download(maps, kind) {
  const svg = picture(maps);
  if (kind === 'svg') { keep(new Blob([svg.text], { type: 'image/svg+xml' }), `${maps.file}.svg`); return; }
  const image = new Image();
  image.onload = () => {
    const canvas = h('canvas', { width: 2 * svg.width, height: 2 * svg.height });
    canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => keep(blob, `${maps.file}.png`));
  };
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg.text)}`;
}

function keep(blob, name) {
  const link = h('a', { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const safe = (text) => text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);

function picture(maps) {
  const { panels, colors, groups, hidden, group, bright, radius, order } = maps;
  const width = panels.reduce((sum, one) => sum + one.width + GAP, -GAP), high = panels[0].height;
  const parts = [];
  let left = 0;
  panels.forEach((panel, i) => {
    const dot = (row, symbol, colour, alpha) => {
      const [x, y] = panel.at(row);
      return `<path d="${SHAPES[symbol]}" transform="translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(${radius.toFixed(2)})" fill="${colour}" fill-opacity="${alpha}"/>`;
    };
    parts.push(`<g transform="translate(${left} 0)"><text y="20" font-size="14">${safe(panel.caption.textContent)}</text>`,
      `<g transform="translate(0 ${HEAD})"><rect width="${panel.width}" height="${high}" fill="none" stroke="${colors.ink}" stroke-opacity=".2"/>`,
      `<clipPath id="p${i}"><rect width="${panel.width}" height="${high}"/></clipPath><g clip-path="url(#p${i})">`);
    if (bright) for (const row of order) if (!bright[row]) parts.push(dot(row, 'circle', colors.quiet, 0.35));
    for (const row of order) {
      const one = groups[group[row]];
      if ((!bright || bright[row]) && !hidden.has(group[row])) parts.push(dot(row, one.symbol, one.colour, 0.9));
    }
    if (maps.chosen != null) {
      const [x, y] = panel.at(maps.chosen);
      for (const row of panel.star) {
        const [ex, ey] = panel.at(row);
        parts.push(`<line x1="${x}" y1="${y}" x2="${ex}" y2="${ey}" stroke="${colors[panel.role] || colors.ink}" stroke-opacity=".75" stroke-width="2"/>`);
      }
      parts.push(`<circle cx="${x}" cy="${y}" r="11" fill="none" stroke="${colors.ink}" stroke-width="3"/>`);
    }
    parts.push('</g></g></g>');
    left += panel.width + GAP;
  });
  let x = 0, y = HEAD + high + ROW;
  for (const [i, one] of groups.entries()) {
    if (hidden.has(i)) continue;
    const long = 34 + 8 * one.name.length;
    if (x && x + long > width) { x = 0; y += ROW; }
    parts.push(`<path d="${SHAPES[one.symbol]}" transform="translate(${x + 8} ${y - 5}) scale(5)" fill="${one.colour}"/><text x="${x + 20}" y="${y}" font-size="14">${safe(one.name)}</text>`);
    x += long;
  }
  const wide = width + 2 * PAD, tall = y + 12 + 2 * PAD;
  return {
    width: wide, height: tall,
    text: `<svg xmlns="http://www.w3.org/2000/svg" width="${wide}" height="${tall}" viewBox="${-PAD} ${-PAD} ${wide} ${tall}" font-family="sans-serif" ` +
      `fill="${colors.ink}"><rect x="${-PAD}" y="${-PAD}" width="${wide}" height="${tall}" fill="${colors.paper}"/>${parts.join('')}</svg>`,
  };
}
