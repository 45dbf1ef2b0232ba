"""The pictures of fields: isosurfaces, animations, the figures of a study and those that compare."""

import numpy as np
import pytest
import synthetic
from PIL import Image

from physiglot import animation, drawing, field_figures, isosurface
from physiglot.figures import Study
from physiglot.tasks import field_forecast

PARAMS = field_forecast.Params(rollouts={"test": {}}, frames=4)
WAKE = field_forecast.Params(rollouts={"test": {}}, frames=4, wake=True)


def ball(centre=(15.5, 15.5, 15.5), size=32):
    """Minus the distance to a centre: above −r inside of a ball of radius r."""
    return -np.sqrt(sum((a - c) ** 2 for a, c in zip(np.indices((size,) * 3), centre, strict=True)))


def test_a_ball_is_a_disc_lit_from_one_side():
    picture = isosurface.shaded(ball(), -8.0, size=200)
    cell = 2 * isosurface.reach((32, 32, 32)) / 200
    seen = np.isfinite(picture)
    assert seen.sum() * cell**2 == pytest.approx(np.pi * 64, rel=0.02)
    rows, columns = np.nonzero(seen)
    assert np.mean(rows) == pytest.approx(99.5, abs=0.5) and np.mean(columns) == pytest.approx(99.5, abs=0.5)
    middle, rim = picture[100, 100], picture[np.flatnonzero(seen[:, 100])[-2], 100]
    assert isosurface.AMBIENT <= rim < middle <= 0.9
    upper_left, lower_right = picture[80, 80], picture[120, 120]
    assert upper_left > lower_right


def test_the_near_ball_hides_the_far_one():
    """Along the line of sight, and only there."""
    away = isosurface.axes()[2]
    near, far = 15.5 - 8 * away, 15.5 + 8 * away
    both = np.maximum(ball(near), ball(far) - 1.5)
    shown = [np.nan_to_num(isosurface.shaded(volume, -4.0)) for volume in (both, ball(near), ball(far) - 1.5)]
    assert np.allclose(shown[0], shown[1]) and shown[2].any()


def test_what_the_box_cuts_is_a_flat_cap_and_nothing_is_nothing():
    full = isosurface.shaded(np.ones((8, 8, 8)), 0.5)
    assert np.nanmin(full) == np.nanmax(full) == isosurface.CAP
    assert np.isnan(isosurface.shaded(np.zeros((8, 8, 8)), 0.5)).all()
    assert isosurface.edges((8, 8, 8)).shape == (12, 2, 2)
    assert np.abs(isosurface.edges((8, 8, 8))).max() <= isosurface.reach((8, 8, 8))


def predicted(truth, error=0.05):
    """The same with noise, as `predict` writes it."""
    noise = error * np.random.default_rng(0).normal(size=truth["state"].shape)
    return truth.assign(prediction=truth["state"] * (1 + noise)).drop_vars("state")


def wake():
    """With the coordinates of the window."""
    data = synthetic.wake(3, np.random.default_rng(0))
    x, y = np.linspace(-2, 14, data.sizes["x"]), np.linspace(-4, 4, data.sizes["y"])
    return data.assign_coords(x=x, y=y).assign_attrs(system="wake")


def waves():
    return synthetic.waves(2, np.random.default_rng(0)).assign_attrs(system="waves")


@pytest.fixture(scope="module")
def figures():
    """All figures by system."""

    def draw(truth):
        return field_forecast.plot({"test": truth}, {"test": predicted(truth)}, {}, PARAMS)

    return {"wake": draw(wake()), "waves": draw(waves())}


@pytest.mark.parametrize("system", ["wake", "waves"])
def test_a_study_has_its_figures(system, figures, tmp_path):
    assert tuple(figures[system]) == field_forecast.FIGURES
    shown = texts(figures[system]["states"])
    assert "truth" in shown and "prediction" in shown and "error" in shown and "t = " in shown
    assert ("vorticity" in shown and "nu 0.0" in shown) if system == "wake" else "test series 1" in shown
    for name in ("structure", "error"):
        drawing.save(figures[system][name], tmp_path / name)
        assert (tmp_path / f"{name}.svg").stat().st_size > 10_000


def test_a_wake_is_named_by_its_reynolds_number():
    truth = wake()
    assert field_figures.Pair(truth, predicted(truth), WAKE).name(1) == f"Re {2 / truth['parameters'].values[1, 0]:.0f}"


@pytest.mark.parametrize("system", ["wake", "waves"])
def test_an_animation_moves(system, figures, tmp_path):
    """Truth and prediction both change, what stands still does not, and it loops."""
    moving = figures[system]["animation"]
    assert isinstance(moving, animation.Animation)
    for copy in "ab":
        moving.save(tmp_path / copy)
    for kind in ("gif", "svg"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 4 and gif.info["loop"] == 0 and gif.width > 500
        frames = []
        for k in range(4):
            gif.seek(k)
            frames.append(np.asarray(gif.convert("RGB"), int))
    change = np.abs(frames[0] - frames[3]).sum(2) > 30
    half = change.shape[1] // 2
    assert change[:, :half].sum() > 100 and change[:, half:].sum() > 100
    assert not change[:8].any(), "the titles stand still"


def test_figures_without_a_rollout():
    nothing = field_forecast.plot({}, {}, {}, field_forecast.Params(rollouts={}))
    assert set(nothing) == set(field_forecast.FIGURES)


def study(label, variant, truth, params, error, published=None):
    runs = [predicted(truth, error), predicted(truth, 2 * error)]
    pair = ({"test": truth}, [{"test": run} for run in runs])
    metrics = [field_forecast.evaluate(pair[0], run, params) for run in pair[1]]
    return Study(label, variant, "clean", *pair, metrics, published or {}, label, params)


@pytest.fixture(scope="module")
def studies():
    published = {"relative_mse_uy_0_16": 0.02}
    return [
        study("Ours", "ours", wake(), WAKE, 0.02, published),
        study("Persistence", "baseline", wake(), WAKE, 0.1),
        study("Ours", "ours", waves(), PARAMS, 0.02),
    ]


def texts(figure):
    """Everything that is to be read in a figure."""
    from matplotlib.text import Text

    return " | ".join(t.get_text() for t in figure.findobj(Text))


def test_comparisons_have_a_row_for_every_system(studies, tmp_path):
    figures = field_forecast.compare(studies)
    assert tuple(figures) == field_forecast.COMPARISONS
    growth, spectra = texts(figures["field_error_growth"]), texts(figures["field_spectra"])
    for words in (growth, spectra):
        assert "wake, clean: uy" in words and "waves, clean: v" in words and "Persistence" in words
    assert "published, mean of bin" in growth and "power, predicted / true" in spectra
    strouhal = figures["wake"].axes[0]
    reynolds = sorted(2 / wake()["parameters"].values[:, 0])
    assert strouhal.lines[0].get_xdata() == pytest.approx(reynolds, abs=0.5) and len(strouhal.lines) == 3
    for name, figure in figures.items():
        drawing.save(figure, tmp_path / name)
    assert "no study has a rollout" in texts(field_forecast.compare([])["field_error_growth"])
