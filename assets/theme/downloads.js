// Every plot as a file: plotly's own button writes SVG, for print; beside it one for PNG, for slides.
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
}
