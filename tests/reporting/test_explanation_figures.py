"""Pictures of explanations: what stands where, by which scale, and under which name."""

from pathlib import Path

import numpy as np
import pytest

from jaxser.reporting import figures
from jaxser.reporting.figures.explanations import UNDEFINED, Example
from jaxser.results.estimate import Estimate
from jaxser.speech.images import image_spectrogram


def example(shape: tuple[int, ...], maps: tuple[np.ndarray, np.ndarray]) -> Example:
    rng = np.random.default_rng(0)
    inputs = rng.uniform(0, 1, (2, *shape))
    return Example("anger\nu0", (inputs[0], inputs[1]), maps, ("anger", "joy"))


def test_pictures_and_maps_stand_clean_beside_attacked(tmp_path: Path) -> None:
    maps = np.zeros((2, 224, 224))
    maps[0, :2, :] = 1.0  # the highest bands
    maps[1, -112:] = -3.0
    each = example((224, 224, 3), (maps[0], maps[1]))
    figure = figures.spectrogram_maps_figure(
        "$levit_256", [each, each], image_spectrogram("mel"), seconds=1.0, signed=True
    )
    figures.save_figure(figure, tmp_path / "maps.png")
    places = [place for place in figure.axes if place.images]
    assert len(places) == 8
    said = [place.get_title() for place in places[:4]]
    assert said[0::2] == ["clean, taken for anger", "attacked, taken for joy"]
    assert said[1] == said[3] == "red for it, blue against it"
    assert "anger\nu0" in places[0].get_ylabel()
    for place, drawn in zip(
        places[:4], (each.inputs[0], maps[0], each.inputs[1], maps[1]), strict=True
    ):
        (image,) = place.images
        np.testing.assert_array_equal(image.get_array(), drawn)
        assert (image.origin, *image.get_extent()) == ("upper", 0.0, 1.0, 0.0, 224.0)
    # Each map has its own scale, symmetric about 0.
    assert places[1].images[0].get_clim() == (-1.0, 1.0)
    assert places[3].images[0].get_clim() == (-3.0, 3.0)


def test_a_map_of_magnitudes_is_light_where_nothing_matters() -> None:
    maps = np.zeros((2, 16, 16))
    maps[:, 3, 5] = 1e3
    maps[1, 8:] = 2.0
    each = example((16, 16), (maps[0], maps[1]))
    figure = figures.spectrogram_maps_figure("u", [each], image_spectrogram("linear"), 1.0)
    drawn = [place.images[0] for place in figure.axes if place.images][1::2]
    assert all(sum(image.cmap(0.0)[:3]) > sum(image.cmap(1.0)[:3]) + 2 for image in drawn)
    # A single bright cell does not leave the others pale.
    assert drawn[1].get_clim() == (0.0, 2.0)


@pytest.mark.parametrize(
    ("fill", "reason"), [(0.0, UNDEFINED), (2.0, UNDEFINED), (np.nan, "undefined: not finite")]
)
def test_a_map_that_tells_nothing_is_not_drawn(fill: float, reason: str) -> None:
    maps = np.zeros((2, 16, 16))
    maps[0, 3, 5], maps[1] = 1.0, fill
    each = example((16, 16), (maps[0], maps[1]))
    figure = figures.spectrogram_maps_figure("u", [each], image_spectrogram("linear"), 1.0)
    places = figure.axes[:4]
    assert [len(place.images) for place in places] == [1, 1, 1, 0]
    said = [" ".join(text.get_text() for text in place.texts).split() for place in places]
    assert said == [[], [], [], reason.split()]


def test_a_map_of_a_waveform_that_is_the_same_all_over_is_not_drawn() -> None:
    maps = np.zeros((2, 600))
    maps[0, 5] = 1.0
    figure = figures.waveform_maps_figure("u", [example((600,), (maps[0], maps[1]))], 300)
    said = [" ".join(text.get_text() for text in place.texts).split() for place in figure.axes]
    assert said == [[], [], [], UNDEFINED.split()]
    assert not figure.axes[3].patches


def test_a_panel_without_any_agreement_says_why() -> None:
    whole, none = Estimate(0.5, 0.4, 0.7), Estimate(*[np.nan] * 3)
    found = {"changed": {"rank": none, "top": whole}, "kept": {"rank": none, "top": none}}
    measures = {"rank": "rank correlation", "top": "overlap"}
    of_victim = {"Grad-CAM++": {"levit runs/a": found}}
    figure = figures.agreement_figure("after pgd", measures, of_victim, ["changed", "kept"])
    said = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert said == [[UNDEFINED.replace(": ", ":\n")], []]


def test_under_a_waveform_is_the_sum_of_each_piece_of_its_map(tmp_path: Path) -> None:
    maps = np.zeros((2, 600))
    maps[0, 10:12], maps[1, 300] = 2.0, -5.0
    each = example((600,), (maps[0], maps[1]))
    for signed, first in ((True, 4.0), (False, 2.0)):
        figure = figures.waveform_maps_figure("u", [each], 300, signed)
        figures.save_figure(figure, tmp_path / "maps.png")
        above, other, below, against = figure.axes
        assert [above.get_title(), other.get_title()] == [
            "clean, taken for anger",
            "attacked, taken for joy",
        ]
        np.testing.assert_array_equal(above.lines[0].get_ydata(), each.inputs[0])
        assert above.lines[0].get_xdata()[-1] == pytest.approx(599 / 300)
        values, edges, _ = below.patches[0].get_data()
        assert values.max() == values[5] == first
        assert edges[5] == pytest.approx(10 / 300)
        assert against.patches[1].get_data().values.min() == (-5.0 if signed else 0.0)


def test_bars_of_agreement_have_their_intervals_and_gaps_where_nothing_was_measured(
    tmp_path: Path,
) -> None:
    whole = {"rank": Estimate(0.5, 0.4, 0.7), "top": Estimate(0.2, 0.1, 0.3)}
    none = {"rank": Estimate(*[np.nan] * 3), "top": Estimate(*[np.nan] * 3)}
    found = {"changed": whole, "kept": none}
    figure = figures.agreement_figure(
        "after pgd",
        {"rank": "rank correlation", "top": "overlap"},
        {
            "saliency": {"levit /data/some_runs/levit_256": found, "emo18 runs/b": found},
            "Grad-CAM++": {"levit /data/some_runs/levit_256": found},
        },
        ["changed", "kept"],
    )
    figures.save_figure(figure, tmp_path / "agreement.png")
    assert [axes.get_title() for axes in figure.axes] == [
        "saliency: rank correlation",
        "saliency: overlap",
        "Grad-CAM++: rank correlation",
        "Grad-CAM++: overlap",
    ]
    first, _, third, _ = figure.axes
    assert [bar.get_height() for bar in first.patches] == [0.5, 0.5, 0.0, 0.0]
    assert [bar.get_height() for bar in third.patches] == [0.5, 0.0, 0.0, 0.0]
    segments = first.collections[0].get_segments()
    assert sorted(end for _, end in segments[0]) == pytest.approx([0.4, 0.7])
    assert [text.get_text() for text in third.get_xticklabels()] == [
        "levit\n/data/some_runs/\nlevit_256",  # where a folder ends
        "emo18\nruns/b",
    ]


def test_confusion_of_two_victims_clean_and_attacked(tmp_path: Path) -> None:
    clean, attacked = np.array([[3, 1], [0, 4]]), np.array([[0, 4], [4, 0]])
    lines = [{f"{name}\nclean": clean, f"{name}\npgd": attacked} for name in "ab"]
    figure = figures.confusions_figure("Confusion", lines, [("joy", "_anger")] * 2)
    figures.save_figure(figure, tmp_path / "confusion.png")
    places = [axes for axes in figure.axes if axes.get_xlabel() == "predicted"]
    assert [place.get_title() for place in places] == [
        f"{name}\n{words}, 8 rows"
        for name in "ab"
        for words in ("clean\nUAR 87.5%", "pgd\nUAR 0.0%")
    ]
    assert {text.get_text() for text in places[1].texts} == {"4\n100%"}
