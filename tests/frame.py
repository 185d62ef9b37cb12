"""The app in its frame without a browser: open a page by its address, and read it."""

from streamlit.testing.v1 import AppTest

from refine import paths


def opened(page: str = "overview", **query: str | list[str]) -> AppTest:
    """The app on one page, its address as given."""
    app = AppTest.from_file(str(paths.ROOT / "app.py"), default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    if page != "overview":
        app.switch_page(f"pages/{page}.py")
        for key, value in query.items():
            app.query_params[key] = value
        app.run()
    assert not app.exception
    return app


def said(app: AppTest) -> str:
    """Everything the page says about a problem."""
    return " | ".join(element.value for element in [*app.error, *app.warning, *app.info])
