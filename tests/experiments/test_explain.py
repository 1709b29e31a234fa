"""What victims that hear waveforms look at: files, figures by hand, and what cannot be shown."""

import csv
import dataclasses
import re
from collections import Counter

import jax
import numpy as np
import pytest
import scipy.stats
from image_runs import RATE, write_speech
from tiny_networks import use_tiny_networks
from untrained_run import make_run, make_tiny_run

from jaxser import explain, train
from jaxser.config import AttackCommandConfig
from jaxser.driver import run as driver
from jaxser.driver.attributions import Attributions
from jaxser.experiments import explain as experiment
from jaxser.experiments import explained_victims, speech
from jaxser.experiments.agreement import GROUPS, MEASURES, Agreement, agreement_table
from jaxser.experiments.explanations import (
    attack_once,
    baselines,
    example_rows,
    examples_of,
    explained_classes,
    likeliest_others,
)
from jaxser.experiments.last_layer import lacks_for_tsne
from jaxser.experiments.preparation import prepare_run
from jaxser.results.training_facts import TrainingFacts
from jaxser.results.units import Units
from jaxser.runtime.errors import InputError, UsageError
from jaxser.victims import loading, module, run_folder
from jaxser.victims.loading import load_victim

EPSILON = 0.05
FLAGS = ("--attack", "fgsm", "--epsilon", str(EPSILON))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two victims with the same weights, in folders of one name."""
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_networks(patch)
        root = tmp_path_factory.mktemp("explained")
        for name in ("a", "b"):
            (root / name).mkdir()
            make_tiny_run(root / name)
        yield root / "a" / "run", root / "b" / "run"


@pytest.fixture(scope="module")
def compared(runs, tmp_path_factory):
    """(folder, what was done how often) of both victims by one command."""
    out, counts = tmp_path_factory.mktemp("compared"), Counter()
    with pytest.MonkeyPatch.context() as patch:

        def counted(place, name):
            original = getattr(place, name)

            def call(*arguments, **options):
                counts[name] += 1
                return original(*arguments, **options)

            patch.setattr(place, name, call)

        counted(driver, "look")
        counted(loading, "victim_of_run")
        counted(speech, "select")
        argv = ["--victim", *map(str, runs), *FLAGS, "--out", str(out)]
        argv += ["--show", "saliency", "agreement", "confusion"]
        assert explain.main(argv) == 0
    return out, counts


@pytest.fixture(scope="module")
def looked(runs):
    config = AttackCommandConfig(victim=runs[0], attack="fgsm", epsilon=(EPSILON,), limit=500)
    return attack_once(prepare_run(config), None)


def lines_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_every_victim_has_its_pictures_and_all_share_the_tables(compared):
    out, counts = compared
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    own = ("saliency.png", "agreement_rows.csv")
    assert files == {
        *("agreement.csv", "agreement.png", "confusion.csv", "confusion.png"),
        *(f"{folder}/{name}" for folder in ("run", "run 2") for name in own),
    }
    assert all((out / name).stat().st_size > 5_000 for name in files if name.endswith("png"))
    # Each victim is loaded once, hears its speech once, and that is prepared once.
    assert counts == {"look": 2, "victim_of_run": 2, "select": 2}


@pytest.mark.parametrize("victims", [1, 2])
@pytest.mark.parametrize("methods", [("saliency",), ("saliency", "gradcam", "integrated")])
def test_no_line_of_the_agreement_is_wider_than_a_terminal(victims, methods):
    """Names of run folders are long, and the same in many lines."""
    rng = np.random.default_rng(0)
    found = [
        Agreement.of(
            f"cnn_lstm runs/cnn_lstm_emodb_{victim}",
            method,
            *rng.normal(size=(3, 8, 30)),
            np.arange(8) < 5,
            Units.of(np.arange(8)),
        )
        for victim in range(victims)
        for method in methods
    ]
    text = agreement_table(found, 80)
    assert max(map(len, text.splitlines())) <= 80
    assert (victims == 1) == ("lines: victim cnn_lstm runs/cnn_lstm_emodb_0" in text)
    assert all(each in text for each in (*GROUPS, *MEASURES.values(), *methods))


@pytest.mark.parametrize(
    ("sources", "others"),
    [
        ("abcdef", [3, 4, 5, 0, 1, 2]),  # half of the list away
        ("aaab", [3, 3, 3, 1]),  # and not another window of the same utterance
        ("aabb", [2, 3, 0, 1]),
        ("abab", [1, 2, 3, 0]),
        ("aaa", None),
        ("a", None),
    ],
)
def test_another_utterance_is_another_one(sources, others):
    """A map beside itself, or beside one of another window, agrees the better for it."""
    count = len(sources)
    maps = np.random.default_rng(0).normal(size=(count, 40))
    units = Units.of([f"{name}.{i}" for i, name in enumerate(sources)], sources=list(sources))
    found = Agreement.of("victim", "saliency", maps, maps, maps, np.ones(count, bool), units)
    held = found.rows["another utterance"]
    if others is None:
        assert all(np.isnan(values).all() for values in held.values())
        assert [undefined for _, undefined in found.figures["another utterance"].values()] == [
            count
        ] * len(MEASURES)
        return
    expected = [
        scipy.stats.spearmanr(np.abs(a), np.abs(maps[other])).statistic
        for a, other in zip(maps, others, strict=True)
    ]
    np.testing.assert_allclose(held["rank"], expected, atol=1e-6)


def test_agreement_is_that_of_gradients_before_and_after(compared, looked):
    """Gradients by JAX of the two inputs, ranked by SciPy."""
    out, _ = compared
    victim = looked.speech.victim
    gradient = jax.grad(lambda x, label: victim.logits(x[None])[0, label])
    maps = [
        [np.abs(gradient(each, label)) for each, label in zip(x, said, strict=True)]
        for x, said in ((looked.x, looked.before), (looked.x_adv, looked.after))
    ]
    np.testing.assert_allclose(np.abs(looked.x_adv - looked.x).max(), EPSILON, rtol=1e-5)
    rows = lines_of(out / "run" / "agreement_rows.csv")
    assert [row["utterance"] for row in rows] == looked.ids
    changed = looked.before != looked.after
    assert [row["changed"] == "true" for row in rows] == changed.tolist()
    assert 0 < changed.sum() < len(changed)
    found = [scipy.stats.spearmanr(a, b).statistic for a, b in zip(*maps, strict=True)]
    np.testing.assert_allclose([float(row["rank"]) for row in rows], found, atol=2e-3)
    other = np.roll(np.arange(6), 3)
    seconds = np.asarray(victim.logits(looked.x)).argsort(axis=1)[:, -2]
    next_class = [np.abs(gradient(x, label)) for x, label in zip(looked.x, seconds, strict=True)]
    for column, theirs in (
        ("utterance_rank", [maps[0][i] for i in other]),
        ("class_rank", next_class),
    ):
        held = [scipy.stats.spearmanr(a, b).statistic for a, b in zip(maps[0], theirs, strict=True)]
        np.testing.assert_allclose([float(row[column]) for row in rows], held, atol=2e-3)
    table = {
        (r["victim"].split("/")[-2], r["compared"]): r for r in lines_of(out / "agreement.csv")
    }
    assert len(table) == 2 * 5
    for group, chosen in (("all", changed | True), ("prediction changed", changed)):
        mean = np.mean(np.array(found)[chosen])
        assert float(table["a", group]["rank"]) == pytest.approx(mean, abs=2e-3)
        assert int(table["a", group]["rows"]) == chosen.sum()
        assert table["a", group]["rank"] == table["b", group]["rank"]


def test_confusion_counts_every_utterance_once_before_and_once_after(compared, looked):
    out, _ = compared
    lines = [line for line in lines_of(out / "confusion.csv") if "/a/" in line["victim"]]
    for inputs, said in (("clean", looked.before), ("fgsm, ε 0.05 of the waveform", looked.after)):
        of_kind = [line for line in lines if line["inputs"] == inputs]
        assert sum(int(line["rows"]) for line in of_kind) == 6
        right = sum(int(line["rows"]) for line in of_kind if line["true"] == line["predicted"])
        assert right == (said == looked.speech.labels).sum()


def test_paths_begin_at_silence_or_at_noise_as_loud_as_the_utterance(looked):
    rows = np.array([4, 1])
    noise = baselines(looked, None, rows, seed=3)
    np.testing.assert_allclose(noise.std(axis=1), looked.x[rows].std(axis=1), rtol=0.05)
    correlation = np.corrcoef(noise[0], noise[1])[0, 1]
    assert correlation == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_array_equal(noise[1], baselines(looked, "noise", rows[1:], seed=3)[0])
    assert not baselines(looked, "silence", rows, seed=3).any()


def test_an_utterance_of_each_class_is_drawn_and_rather_one_that_was_fooled(looked):
    rows = example_rows(looked)
    labels = looked.speech.labels
    assert sorted(labels[rows]) == sorted(set(labels.tolist()))
    fooled = (looked.before == labels) & (looked.after != labels)
    for row in rows:
        assert fooled[row] or not fooled[labels == labels[row]].any()


def test_what_cannot_be_shown_is_one_sentence(runs, tmp_path):
    one, both = ["--victim", str(runs[0]), *FLAGS], ["--victim", *map(str, runs), *FLAGS]
    for argv, said in (
        ([*one, "--show", "gradcam"], "emo18 reads waveforms; use saliency or integrated"),
        ([*one, "--show", "tsne"], "does not tell what its last layer reads; leave tsne out"),
        ([*one, "--show", "gradcan"], "show.0 = 'gradcan' in the command line is not valid: inp"),
        ([*one, "--limit", "3"], "limit = '3' in the command line is not valid: input should be"),
        ([*one, "--steps", "0"], "steps = '0' in the command line is not valid"),
        ([*one, "--params", "targeted=true"], "give python -m jaxser.attack a --target LABEL"),
        ([*one, "--out", str(runs[0] / "run.json")], "run.json is a file; give --out a folder"),
        (both, "several victims are compared in one table; give its folder as --out"),
        (
            ["--victim", str(runs[0]), str(runs[0]), *FLAGS, "--out", str(tmp_path)],
            "the same victim is given twice",
        ),
    ):
        with pytest.raises(UsageError, match=said):
            explain.main(argv)
    argv = [
        "--victim",
        str(runs[0]),
        str(tmp_path / "none"),
        *FLAGS,
        "--out",
        str(tmp_path / "out"),
    ]
    with pytest.raises(InputError, match="none is not a run folder"):
        explain.main(argv)
    assert not (tmp_path / "out").exists()


def test_notes_of_the_attack_and_the_defence_are_said(runs, tmp_path, capsys, monkeypatch):
    loaded, drawn = run_folder.victim_of_run, []

    def defended(folder, domain):
        facts = TrainingFacts("trained against pgd, ε 0.002")
        return dataclasses.replace(loaded(folder, domain), training=facts)

    monkeypatch.setattr(loading, "victim_of_run", defended)
    monkeypatch.setattr(experiment, "save_figure", lambda figure, path: drawn.append(figure))
    argv = ["--victim", str(runs[0]), "--attack", "fgsm", "--epsilon", "3", "--show", "confusion"]
    assert explain.main([*argv, "--out", str(tmp_path)]) == 0
    assert "note: epsilon 3 limits nothing" in capsys.readouterr().out
    titles = [axes.get_title().split("\n") for axes in drawn[0].axes[:2]]
    assert [title[1] for title in titles] == ["trained against pgd, ε 0.002"] * 2
    assert [title[2] for title in titles] == ["clean", "fgsm, ε 3 of the waveform"]


def test_a_map_that_nobody_asked_for_by_name_and_cannot_be_is_said(
    runs, tmp_path, capsys, monkeypatch
):
    loaded = run_folder.victim_of_run

    def embedding(folder, domain):
        return dataclasses.replace(loaded(folder, domain), embed=lambda variables, x: x)

    # What can be drawn takes long, and is not what this is about.
    monkeypatch.setattr(explained_victims, "checked_pictures", lambda *_: ["confusion"])
    argv = ["--victim", str(runs[0]), *FLAGS, "--out", str(tmp_path)]
    told = "note: tsne is left out: "
    assert explain.main(argv) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{told}emo18 does not tell what its last layer reads" in printed
    monkeypatch.setattr(loading, "victim_of_run", embedding)
    assert explain.main(argv) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{told}a perplexity of 30 needs more than 6 utterances; give" in printed
    assert explain.main([*argv, "--show", "confusion"]) == 0
    assert told not in capsys.readouterr().out
    victim = load_victim(runs[0], "waveform")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert lacks_for_tsne(victim, 3.0, 10).startswith("t-SNE needs scikit-learn: pip install")


def test_all_victims_are_checked_before_the_first_is_attacked(runs, tmp_path, monkeypatch):
    """What the second cannot give is said without a pass of the first."""

    def passed(*arguments, **options):
        raise AssertionError("a victim was looked at")

    for place, name in ((speech, "clean_pass"), (experiment, "attack_once")):
        monkeypatch.setattr(place, name, passed)
    loaded = run_folder.victim_of_run

    def only_of_the_first(folder, domain):
        victim = loaded(folder, "waveform")
        if folder == runs[1] and domain != "waveform":
            raise run_folder.no_domain("emo18", str(folder), domain, ("waveform",))
        embed = (lambda variables, x: x) if folder == runs[0] else None
        return dataclasses.replace(victim, embed=embed)

    monkeypatch.setattr(loading, "victim_of_run", only_of_the_first)
    both = ["--victim", *map(str, runs), *FLAGS, "--out", str(tmp_path / "out")]
    for more, said in (
        (["--domain", "features"], rf"emo18 in {runs[1]} has no features to attack"),
        (["--show", "tsne", "--perplexity", "2"], rf"{runs[1]} does not tell what its last layer"),
        (["--show", "tsne"], "a perplexity of 30 needs more than 6 utterances"),
        (["--show", "confusion", "--split", "nowhere"], "split"),
    ):
        with pytest.raises(UsageError, match=said):
            explain.main([*both, *more])
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_the_last_layer_of_a_victim_that_hears_waveforms_is_drawn(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run_folder, "build_module", module.build_module)
    run = make_run(tmp_path)
    argv = ["--victim", str(run), *FLAGS, "--show", "tsne", "--perplexity", "3"]
    assert explain.main(argv) == 0
    assert (run / "explain" / "tsne.png").stat().st_size > 5_000
    lines = lines_of(run / "explain" / "tsne.csv")
    assert [line["kind"] for line in lines] == ["clean"] * 6 + ["attacked"] * 6
    places = {(line["x"], line["y"]) for line in lines}
    assert len(places) == 12
    assert "map in" in capsys.readouterr().out


def test_the_explained_class_is_chosen_by_name(looked):
    before, after = explained_classes(looked, "prediction")
    assert before.tolist() != after.tolist()
    assert (before.tolist(), after.tolist()) == (looked.before.tolist(), looked.after.tolist())
    for explained, expected in (("clean", looked.before), ("truth", looked.speech.labels)):
        for classes in explained_classes(looked, explained):
            np.testing.assert_array_equal(classes, expected)
    logits = looked.speech.clean.logits
    order = logits.argsort(axis=1)
    np.testing.assert_array_equal(likeliest_others(looked, order[:, -1]), order[:, -2])
    np.testing.assert_array_equal(likeliest_others(looked, order[:, 0]), order[:, -1])


@pytest.mark.parametrize(
    ("nothing", "where", "said"),
    [
        (0.0, [0], r"within 2\.0% of it \(median of \d+; at worst 2\.0%; undefined for 2\)"),
        (np.nan, [0], r"within 2\.0% of it \(median of \d+; at worst 2\.0%; undefined for 2\)"),
        (0.0, slice(None), r"no difference of logits to add up to in any of \d+ inputs; give an"),
        (0.0, [], r"within 2\.0% of it \(median of \d+; at worst 2\.0%\)"),
    ],
)
def test_silent_inputs_do_not_hide_how_complete_integrated_gradients_are(
    runs, monkeypatch, tmp_path, capsys, nothing, where, said
):
    """Noise as loud as silence is silence: its share is 0/0, and was the median of all."""

    def attributed(victim, x, classes, methods, **options):
        differences = np.ones(len(x))
        differences[where] = nothing
        return Attributions({"integrated": np.zeros_like(x)}, differences, 1.02 * differences)

    monkeypatch.setattr(experiment, "attributions", attributed)
    argv = ["--victim", str(runs[0]), *FLAGS, "--show", "integrated"]
    assert explain.main([*argv, "--out", str(tmp_path / "out")]) == 0
    assert re.search(said, " ".join(capsys.readouterr().out.split()))


@pytest.mark.long
def test_a_victim_of_spectrograms_is_explained_in_both_domains(tmp_path, capsys):
    """A CNN-LSTM, whose maps have time along their rows and are drawn with time along columns."""
    speech, run = write_speech(tmp_path / "speech"), tmp_path / "run"
    flags = {"corpus.name": "csv", "corpus.sample_rate": RATE, "corpus.seconds": 0.5}
    flags |= {"corpus.root": speech, "model.name": "cnn_lstm_m0", "training.epochs": 1}
    flags |= {"features.kind": "log_mel", "features.n_fft": 64, "features.hop_length": 8}
    flags |= {"features.n_mels": 32, "training.batch_size": 8, "out": run}
    argv = [str(part) for name, value in flags.items() for part in (f"--{name}", value)]
    assert train.main(argv) == 0
    for domain, epsilon in (("features", "0.5"), ("waveform", "0.01")):
        out = tmp_path / domain
        argv = ["--victim", str(run), "--domain", domain, "--attack", "fgsm", "--steps", "4"]
        assert explain.main([*argv, "--epsilon", epsilon, "--limit", "6", "--out", str(out)]) == 0
        files = {path.name for path in out.iterdir() if path.stat().st_size > 5_000}
        assert files == {
            *("agreement.png", "confusion.png", "gradcam.png", "integrated.png", "saliency.png")
        }
    assert "Grad-CAM++ of 2 utterances" in capsys.readouterr().out
    victim = load_victim(run, "features")
    assert victim.feature_map.picture == victim.input_shape
    rows, bins = victim.feature_map.picture
    config = AttackCommandConfig(
        victim=run, domain="features", attack="fgsm", epsilon=(0.5,), limit=6
    )
    looked = attack_once(prepare_run(config), None)
    maps = np.arange(2.0 * rows * bins).reshape(2, rows, bins)
    example = examples_of(looked, np.array([3, 1]), (maps, maps), pictures=True)[1]
    assert example.inputs[0].shape == example.maps[0].shape == (bins, rows)
    # The first frame of the lowest band is at the left, at the bottom.
    assert example.maps[0][-1, 0] == maps[1, 0, 0]
    assert example.maps[0][-1, 1] == maps[1, 1, 0]
