"""The lessons page by itself: predict, reveal, try again, go on, and an address that says where."""

import pytest
from streamlit.testing.v1 import AppTest

from refine import paths
from refine.lessons import collapse

SCREENS = [(lesson, screen) for lesson in range(1, 6) for screen in (1, 2)]
TOLD = 'class="refine-told"'
SCALES = {(1, 1), (1, 2), (2, 1), (4, 2), (5, 1), (5, 2)}  # screens that ask for a number


@pytest.fixture
def app() -> AppTest:
    """The page in its frame."""
    running = AppTest.from_file(str(paths.ROOT / "app.py"), default_timeout=60)
    running.run()
    running.switch_page("pages/lessons.py")
    return running


def at(app: AppTest, **query: object) -> AppTest:
    """Follow an address."""
    app.query_params.clear()
    for name, value in query.items():
        app.query_params[name] = str(value)
    app.run()
    assert not app.exception
    assert not app.error
    return app


def html(app: AppTest) -> str:
    return " ".join(element.proto.body for element in app.get("html"))


def keys(app: AppTest) -> set[str]:
    return {button.key for button in app.button}


def address(app: AppTest) -> dict[str, str]:
    return {name: value[0] if isinstance(value, list) else value
            for name, value in app.query_params.items()}  # fmt: skip


def answer(app: AppTest, lesson: int, screen: int) -> None:
    if (lesson, screen) in SCALES:
        app.button(key=f"lesson{lesson}{screen}_commit").click().run()
    else:
        found = [
            b for b in app.button if (b.key or "").startswith(f"lesson{lesson}{screen}_answer")
        ]
        found[0].click().run()
    assert not app.exception
    assert not app.error


@pytest.mark.parametrize(("lesson", "screen"), SCREENS)
def test_nothing_is_told_before_the_prediction_and_both_after(
    app: AppTest, lesson: int, screen: int
) -> None:
    at(app, lesson=lesson, screen=screen)
    assert TOLD not in html(app)
    assert f"lesson{lesson}{screen}_again" not in keys(app)
    for _ in range(4 if (lesson, screen) == (3, 1) else 1):
        answer(app, lesson, screen)
    assert TOLD in html(app)
    assert "guess" in address(app)
    if (lesson, screen) in SCALES:
        assert "You predicted" in html(app)
    elif (lesson, screen) != (3, 1):
        assert "your prediction" in html(app)
        assert "what happens" in html(app)
    app.button(key=f"lesson{lesson}{screen}_again").click().run()
    assert TOLD not in html(app)
    assert "guess" not in address(app)


@pytest.mark.parametrize("lesson", range(1, 6))
def test_every_lesson_ends_with_what_must_not_be_concluded(app: AppTest, lesson: int) -> None:
    assert "must not conclude" not in html(at(app, lesson=lesson))
    assert "must not conclude" in html(at(app, lesson=lesson, screen=2))
    notes = " ".join(element.value for element in app.expander[0].markdown)
    for word in ("Goal", "Ask", "Usual misconception", "Five minutes"):
        assert word in notes


def test_next_walks_through_all_screens_and_back(app: AppTest) -> None:
    at(app)
    seen = []
    for _ in SCREENS:
        seen.append((int(address(app)["lesson"]), int(address(app).get("screen", 1))))
        if not app.button(key="next").disabled:
            app.button(key="next").click().run()
            assert not app.exception
    assert seen == SCREENS
    assert app.button(key="next").disabled
    app.button(key="previous").click().run()
    assert address(app) == {"lesson": "5"}
    app.button(key="lesson_2").click().run()
    assert address(app) == {"lesson": "2"}
    assert app.title[0].value == "Temperature and negatives"


def test_the_address_carries_guess_and_sliders(app: AppTest) -> None:
    at(app, lesson=1, guess=0.2, length=2.0, less="centred")
    assert app.slider(key="lesson11_length").value == 2.0
    assert "You predicted 0.20; it is 0.44" in html(app)
    app.slider(key="lesson11_length").set_value(3.0).run()
    assert address(app) == {"lesson": "1", "guess": "0.2", "length": "3.0", "less": "centred"}
    at(app, lesson=5, guess=0.5, angle=30, read="unmixed")
    assert app.slider(key="lesson51_angle").value == 30
    assert "moves the words reading by 0.00" in html(app)


def test_a_guess_is_kept_while_one_walks_about(app: AppTest) -> None:
    at(app, lesson=4, guess="barlow")
    app.button(key="lesson_1").click().run()
    assert address(app) == {"lesson": "1"}
    app.button(key="lesson_4").click().run()
    assert address(app) == {"lesson": "4", "guess": "barlow"}


@pytest.mark.parametrize(
    "query",
    [
        {"lesson": "9"},
        {"lesson": "one", "screen": "x"},
        {"lesson": "1", "screen": "7", "guess": "loud"},
        {"lesson": "1", "guess": "900", "length": "-4", "less": "<b>"},
        {"lesson": "3", "guess": "zzzzzzz"},
        {"lesson": "3", "guess": "oooooooo", "draw": "99"},
        {"lesson": "2", "screen": "2", "guess": "huddle", "tau": "0.3"},
        {"lesson": "1", "guess": "nan", "length": "nan"},
    ],
)
def test_a_broken_address_draws_a_lesson(app: AppTest, query: dict[str, str]) -> None:
    at(app, **query)
    assert app.title[0].value
    assert "Traceback" not in html(app)


def test_the_four_predictions_of_dino_come_one_by_one(app: AppTest) -> None:
    at(app, lesson=3)
    for number, code in enumerate("ouun", start=1):
        app.button(key=f"lesson31_answer_{code}").click().run()
        assert f"({number} of {number} right)" in html(app)
    assert address(app)["guess"] == "ouun"
    app.slider(key="lesson31_step").set_value(100).run()
    assert address(app)["step"] == "100"
    app.segmented_control(key="lesson31_draw").set_value(3).run()
    assert address(app)["draw"] == "3"
    assert collapse.ended(collapse.train(True, True, 3)) == "neither"


def test_the_bench_asks_anew_for_another_pair_and_refuses_the_same_clip(app: AppTest) -> None:
    at(app, lesson=5, screen=2)
    app.button(key="lesson52_commit").click().run()
    assert TOLD in html(app)
    app.segmented_control(key="lesson52_voice1").set_value("v12").run()
    assert TOLD not in html(app)
    app.segmented_control(key="lesson52_voice1").set_value("v01").run()
    assert "the same clip" in app.info[0].value
    app.segmented_control(key="lesson52_text1").set_value("s02").run()
    assert "the words" in html(app)
    assert not app.info


def test_missing_vectors_are_a_sentence(app: AppTest, monkeypatch, tmp_path) -> None:
    from refine.lessons import speech

    monkeypatch.setattr(speech, "FILE", tmp_path / "speech.npz")
    speech.load.cache_clear()
    app.query_params["lesson"], app.query_params["screen"] = "1", "2"
    app.run()
    assert "tools/make_lesson_speech.py" in app.error[0].value
    assert not app.exception
    speech.load.cache_clear()
