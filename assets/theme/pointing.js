// A picture of ours (.refine-plot) says what is pointed at, by the pointer or the keyboard: its marks
// (data-told), of which Tab reaches one and the arrow keys the others, or the place on its axes.
if (!window.refinePointing) {
  window.refinePointing = true;

  // words below a box of the page, at its left or, towards the end of the picture, at its right
  const say = (plot, words, box, kind) => {
    const from = plot.getBoundingClientRect();
    const tip = plot.querySelector('.refine-tip') ?? plot.appendChild(document.createElement('p'));
    const end = box.left - from.left > 0.6 * from.width;
    tip.className = `refine-tip ${kind}`;
    tip.setAttribute('aria-hidden', 'true'); // a mark has the same words as its label
    tip.textContent = words;
    tip.hidden = false;
    tip.style.left = end ? 'auto' : `${Math.max(0, box.left - from.left + 0.3 * box.width)}px`;
    tip.style.right = end ? `${Math.max(0, from.right - box.right + 0.3 * box.width)}px` : 'auto';
    tip.style.top = `${box.bottom - from.top}px`;
  };
  const hush = (plot) => {
    const tip = plot?.querySelector('.refine-tip');
    if (tip) tip.hidden = true;
  };

  const spot = (event) => event.target.closest?.('.refine-sheet > [data-told]');
  const tell = (event) => {
    const mark = spot(event);
    if (mark) say(mark.closest('.refine-plot'), mark.dataset.told, mark.getBoundingClientRect(), '');
  };
  const leave = (event) => {
    if (spot(event)) hush(event.target.closest('.refine-plot'));
  };
  for (const kind of ['pointerover', 'focusin']) document.addEventListener(kind, tell);
  for (const kind of ['pointerout', 'focusout']) document.addEventListener(kind, leave);

  // the mark that lies next in a direction, those straight ahead first
  const AHEAD = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  const next = (marks, mark, [x, y]) => {
    const middle = (one) => {
      const box = one.getBoundingClientRect();
      return [box.left + box.width / 2, box.top + box.height / 2];
    };
    const [left, top] = middle(mark);
    const far = (one) => {
      const [right, down] = [middle(one)[0] - left, middle(one)[1] - top];
      const along = right * x + down * y;
      return along > 1 ? along + 3 * Math.abs(right * y + down * x) : Infinity;
    };
    return marks.reduce((best, one) => (far(one) < far(best) ? one : best), mark);
  };

  document.addEventListener('keydown', (event) => {
    const mark = spot(event);
    if (!mark || event.ctrlKey || event.altKey || event.metaKey) return;
    const marks = [...mark.parentElement.querySelectorAll(':scope > [data-told]')];
    const ends = { Home: marks[0], End: marks.at(-1) };
    if (event.key === 'Escape') return hush(mark.closest('.refine-plot'));
    const to = AHEAD[event.key] ? next(marks, mark, AHEAD[event.key]) : ends[event.key];
    if (!to) return;
    event.preventDefault(); // the page stays where it is
    mark.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  });

  // where the pointer is on the axes of a picture (a spectrogram)
  document.addEventListener('pointermove', (event) => {
    const plot = event.target.closest?.('.refine-plot[data-reading]');
    if (!plot) return;
    const axes = JSON.parse(plot.dataset.reading);
    const box = plot.querySelector('.refine-sheet').getBoundingClientRect();
    const right = ((event.clientX - box.left) / box.width - axes.left) / (axes.right - axes.left);
    const down = ((event.clientY - box.top) / box.height - axes.top) / (axes.bottom - axes.top);
    if (!(right >= 0 && right < 1 && down >= 0 && down < 1)) return hush(plot);
    const words = `${(right * axes.seconds).toFixed(2)} s · ${axes.rows[Math.floor(down * axes.rows.length)]}`;
    say(plot, words, new DOMRect(event.clientX, event.clientY, 0, 0), 'refine-reading');
  });
  document.addEventListener('pointerout', (event) => {
    const plot = event.target.closest?.('.refine-plot[data-reading]');
    if (plot && !plot.contains(event.relatedTarget)) hush(plot);
  });
}
