// Symbols as paths of about one unit radius: drawn on a canvas, in the legend and in the SVG file.

const SHAPES = {
  circle: 'M1 0A1 1 0 1 1 -1 0A1 1 0 1 1 1 0Z',
  diamond: 'M0 -1.3L1.3 0L0 1.3L-1.3 0Z',
  square: 'M-.9 -.9H.9V.9H-.9Z',
  cross: 'M-.4 -1.2H.4V-.4H1.2V.4H.4V1.2H-.4V.4H-1.2V-.4H-.4Z',
  x: 'M0 -.57L.7 -1.27L1.27 -.7L.57 0L1.27 .7L.7 1.27L0 .57L-.7 1.27L-1.27 .7L-.57 0L-1.27 -.7L-.7 -1.27Z',
  'triangle-up': 'M0 -1.3L1.2 .8H-1.2Z',
  'triangle-down': 'M0 1.3L1.2 -.8H-1.2Z',
  star: 'M0 -1.4L.41 -.57L1.33 -.43L.67 .22L.82 1.13L0 .7L-.82 1.13L-.67 .22L-1.33 -.43L-.41 -.57Z',
};

const NS = 'http://www.w3.org/2000/svg';

// The symbol of a class, as it stands in the legend.
function icon(symbol, colour) {
  const svg = document.createElementNS(NS, 'svg'), path = document.createElementNS(NS, 'path');
  svg.setAttribute('viewBox', '-1.6 -1.6 3.2 3.2');
  svg.setAttribute('aria-hidden', 'true');
  path.setAttribute('d', SHAPES[symbol]);
  path.setAttribute('fill', colour);
  svg.append(path);
  return svg;
}

// A symbol drawn once, to be stamped many thousand times.
function sprite(symbol, colour, radius, alpha, rim, ratio) {
  const half = Math.ceil(1.5 * radius + 1), stamp = document.createElement('canvas');
  stamp.width = stamp.height = Math.ceil(2 * half * ratio);
  const pen = stamp.getContext('2d'), path = new Path2D();
  pen.scale(ratio, ratio);
  pen.translate(half, half);
  path.addPath(new Path2D(SHAPES[symbol]), new DOMMatrix().scale(radius));
  pen.globalAlpha = alpha;
  pen.fillStyle = colour;
  pen.fill(path);
  if (rim) { pen.strokeStyle = rim; pen.lineWidth = 0.5; pen.stroke(path); }
  return { stamp, half };
}

function numbers(base64, Kind) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Kind(bytes.buffer);
}
