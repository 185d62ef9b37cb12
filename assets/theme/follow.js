// A chart, a map and a picture have the colours of one theme in them, and Streamlit does not run the
// script when the browser's theme or the one of its menu changes: it is asked to.
if (!window.refineFollows) {
  window.refineFollows = true;

  const follow = (app) => {
    let drawn = getComputedStyle(app).colorScheme;
    const look = () => {
      const scheme = getComputedStyle(app).colorScheme;
      if (scheme === drawn) return;
      drawn = scheme;
      document.querySelector('.st-key-theme_changed button')?.click();
    };
    new MutationObserver(look).observe(app, { attributes: true, attributeFilter: ['class'] });
  };
  follow(document.querySelector('[data-testid="stApp"]'));
}
