"""A hand on the linked maps: find a point, click it, draw a lasso around all of them."""

from typing import Any


def outermost(page: Any, key: str, panel: int, which: int) -> int:
    """The row whose point lies furthest left (0) or right (-1) in a panel."""
    maps = _maps(page, key)
    return int(
        maps.evaluate(
            """(maps, [panel, which]) => {
                const rows = [...Array(maps.rows()).keys()];
                rows.sort((a, b) => maps.place(panel, a).x - maps.place(panel, b).x);
                return rows.at(which);
            }""",
            [panel, which],
        )
    )


def hover(page: Any, key: str, panel: int, row: int) -> dict[str, float]:
    """Come from beside to the point; returns where it is."""
    at = _maps(page, key).evaluate("(maps, [panel, row]) => maps.place(panel, row)", [panel, row])
    page.mouse.move(at["x"] - 4, at["y"] - 4)
    page.mouse.move(at["x"], at["y"], steps=3)
    return dict(at)


def click(page: Any, key: str, panel: int, row: int) -> None:
    """Come from beside, and click the point."""
    at = hover(page, key, panel, row)
    page.mouse.click(at["x"], at["y"])


def lasso(page: Any, key: str, panel: int) -> None:
    """Around nearly all of a panel."""
    _maps(page, key)
    box = page.locator(f".st-key-{key} .over").nth(panel).bounding_box()

    def at(x: float, y: float) -> tuple[float, float]:
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    page.mouse.move(*at(0.02, 0.02))
    page.mouse.down()
    for corner in ((0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.02, 0.04)):
        page.mouse.move(*at(*corner), steps=6)
    page.mouse.up()


def shown(page: Any, key: str) -> dict[str, Any]:
    """What stands out: the chosen row, how many keep their colour, lines to neighbours."""
    return dict(_maps(page, key).evaluate("maps => maps.shown()"))


def _maps(page: Any, key: str) -> Any:
    maps = page.locator(f".st-key-{key} .maps")
    maps.wait_for()
    maps.scroll_into_view_if_needed()
    return maps
