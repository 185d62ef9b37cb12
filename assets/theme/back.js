// Back leads to the page before. Streamlit adds an entry to the history for each choice that a page
// writes into its address, and a page that is gone back to writes it again: nobody would get out.
if (!window.refineBack) {
  window.refineBack = true;
  const push = window.history.pushState;
  window.history.pushState = function (state, title, to) {
    const same = to == null || new URL(to, window.location.href).pathname === window.location.pathname;
    return (same ? this.replaceState : push).call(this, state, title, to);
  };
}
