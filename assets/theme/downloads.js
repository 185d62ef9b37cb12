// Every plot as a file: SVG for print, PNG for slides. Plotly's own button writes SVG and gets one
// for PNG beside it; a picture of ours (.refine-plot) has a button for each.
if (!window.refineDownloads) {
  window.refineDownloads = true;

  const label = (button, word) => {
    button.dataset.title = `Download as ${word}`;
    button.classList.add('refine-file');
    button.setAttribute('aria-label', `Download as ${word}`);
    const text = document.createElement('span'); // Streamlit cleans away a script with tags in it
    text.className = 'refine-download';
    text.textContent = word;
    button.replaceChildren(text);
  };

  const offer = (event) => {
    const plot = event.target.closest?.('.js-plotly-plot');
    const own = plot?.querySelector('.modebar-btn[data-title="Download plot"]');
    if (!own) return; // plotly draws its bar anew now and then: it is looked at each time
    const png = own.cloneNode(false);
    png.addEventListener('click', () => {
      const context = plot._context;
      const before = context.toImageButtonOptions;
      context.toImageButtonOptions = { ...before, format: 'png', scale: 2 };
      own.click();
      context.toImageButtonOptions = before;
    });
    label(own, 'SVG');
    label(png, 'PNG');
    own.after(png);
  };
  for (const kind of ['pointerover', 'focusin']) document.addEventListener(kind, offer);

  const keep = (href, name) => {
    const link = document.createElement('a');
    link.href = href;
    link.download = name;
    link.click();
  };

  const SVG = 'http://www.w3.org/2000/svg';
  const node = (tag, attributes, ...children) => {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };

  // the drawing in an image of ours
  const drawn = (image) => {
    const bytes = Uint8Array.from(atob(image.src.split(',')[1]), (letter) => letter.charCodeAt(0));
    const text = new TextDecoder().decode(bytes);
    return document.adoptNode(new DOMParser().parseFromString(text, 'image/svg+xml').documentElement);
  };

  // the lines that a text stands in on the page
  const lines = (text) => {
    const found = [];
    for (const { 0: word, index } of text.data.matchAll(/\S+/g)) {
      const range = document.createRange();
      range.setStart(text, index);
      range.setEnd(text, index + word.length);
      const at = range.getBoundingClientRect();
      const last = found.at(-1);
      if (last && Math.abs(last.top - at.top) < 2) {
        last.words += ` ${word}`;
        last.right = at.right;
      } else if (at.width) {
        found.push({ words: word, left: at.left, right: at.right, top: at.top, height: at.height });
      }
    }
    return found;
  };

  const pen = document.createElement('canvas').getContext('2d');
  const written = (line, style, opacity, from) => {
    pen.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
    const { fontBoundingBoxAscent: above, fontBoundingBoxDescent: below } = pen.measureText('x');
    return node('text', {
      x: line.left - from.left,
      y: line.top - from.top + (line.height * above) / (above + below),
      textLength: line.right - line.left, // as wide where the font is another one
      lengthAdjust: 'spacingAndGlyphs',
      'font-family': style.fontFamily,
      'font-size': style.fontSize,
      'font-weight': style.fontWeight,
      fill: style.color,
      opacity,
    }, line.words);
  };

  // text and images as they stand on the page: what is folded, or leads elsewhere, is left out
  const LEFT_OUT = 'a, button, details:not([open]) > :not(summary)';
  const composed = (plot) => {
    const from = plot.getBoundingClientRect();
    const parts = [];
    const dim = (element) => (element === plot ? 1 : getComputedStyle(element).opacity * dim(element.parentElement));
    for (const element of plot.querySelectorAll('*')) {
      const style = getComputedStyle(element);
      const at = element.getBoundingClientRect();
      if (!at.width || element.closest(LEFT_OUT)) continue;
      const place = { x: at.left - from.left, y: at.top - from.top, width: at.width };
      if (element.tagName === 'IMG') {
        const image = drawn(element);
        for (const [name, value] of Object.entries({ ...place, height: at.height })) image.setAttribute(name, value);
        parts.push(image);
      } else if (parseFloat(style.borderTopWidth)) {
        parts.push(node('rect', { ...place, height: style.borderTopWidth, fill: style.borderTopColor }));
      }
    }
    const texts = document.createTreeWalker(plot, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const parent = texts.currentNode.parentElement;
      if (parent.closest(LEFT_OUT)) continue;
      for (const line of lines(texts.currentNode)) parts.push(written(line, getComputedStyle(parent), dim(parent), from));
    }
    const edge = 12;
    const width = Math.max(from.width, ...parts.map((part) => +part.getAttribute('x') + +(part.getAttribute('width') ?? part.getAttribute('textLength'))));
    const size = [width, from.height].map((side) => Math.ceil(side) + 2 * edge);
    return node('svg', { viewBox: `${-edge} ${-edge} ${size.join(' ')}` }, ...parts);
  };

  // a picture as a file: of one image, or of all that stands in it; on its own paper, sized
  const file = (plot) => {
    const one = plot.querySelector('.refine-sheet > img');
    const svg = one ? drawn(one) : composed(plot);
    const { x, y, width, height } = svg.viewBox.baseVal;
    svg.setAttribute('width', width);
    svg.setAttribute('height', height);
    svg.prepend(node('rect', { x, y, width, height, fill: getComputedStyle(plot).getPropertyValue('--paper') }));
    const text = new XMLSerializer().serializeToString(svg);
    const scale = 2 * Math.max(1, (one?.clientWidth ?? 0) / width);
    return { url: `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`, wide: scale * width, high: scale * height };
  };

  document.addEventListener('click', async (event) => {
    const button = event.target.closest?.('[data-save]');
    const plot = button?.closest('.refine-plot');
    if (!plot) return;
    const name = `${plot.dataset.name}.${button.dataset.save}`;
    const { url, wide, high } = file(plot);
    if (button.dataset.save === 'svg') return keep(url, name);
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = document.createElement('canvas');
    canvas.width = wide;
    canvas.height = high;
    canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
    keep(canvas.toDataURL('image/png'), name);
  });
}
