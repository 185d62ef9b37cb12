// Every plot as a file: SVG for print, PNG for slides. Plotly's own button writes SVG and gets one
// for PNG beside it; a picture of ours (.refine-plot) has a button for each, and may be read.
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

  document.addEventListener('click', (event) => {
    const button = event.target.closest?.('[data-save]');
    const plot = button?.closest('.refine-plot');
    if (!plot) return;
    const image = plot.querySelector('img');
    const name = `${plot.dataset.name}.${button.dataset.save}`;
    if (button.dataset.save === 'svg') return keep(image.src, name);
    const canvas = document.createElement('canvas');
    const scale = 2 * Math.max(1, image.clientWidth / image.naturalWidth);
    canvas.width = scale * image.naturalWidth;
    canvas.height = scale * image.naturalHeight;
    const context = canvas.getContext('2d');
    context.fillStyle = getComputedStyle(plot).getPropertyValue('--paper');
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    keep(canvas.toDataURL('image/png'), name);
  });

  // where the pointer is on the axes of a picture (a spectrogram)
  document.addEventListener('pointermove', (event) => {
    const plot = event.target.closest?.('.refine-plot[data-reading]');
    if (!plot) return;
    const axes = JSON.parse(plot.dataset.reading);
    const box = plot.querySelector('img').getBoundingClientRect();
    const right = ((event.clientX - box.left) / box.width - axes.left) / (axes.right - axes.left);
    const down = ((event.clientY - box.top) / box.height - axes.top) / (axes.bottom - axes.top);
    const tip = plot.querySelector('.refine-reading') ?? plot.appendChild(document.createElement('p'));
    tip.className = right > 0.6 ? 'refine-reading refine-end' : 'refine-reading';
    tip.hidden = !(right >= 0 && right < 1 && down >= 0 && down < 1);
    if (tip.hidden) return;
    tip.textContent = `${(right * axes.seconds).toFixed(2)} s · ${axes.rows[Math.floor(down * axes.rows.length)]}`;
    tip.style.left = `${event.clientX - box.left}px`;
    tip.style.top = `${event.clientY - box.top}px`;
  });
}
