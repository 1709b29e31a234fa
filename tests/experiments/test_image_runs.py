"""Victims that read images, by the commands: trained, attacked in three domains, explained."""

import csv
import json

import numpy as np
import pytest
import yaml
from image_runs import FLAGS, use_shallow_network, write_speech
from short_and_long import short_and_long

from jaxser import attack, certify, evaluate, explain, train
from jaxser.results.certificates import read_certificates
from jaxser.results.reading import read_rows, read_sources
from jaxser.runtime.errors import InputError, UsageError
from jaxser.victims.loading import load_victim
from jaxser.victims.run_folder import read_run

COPIES = {"image": 32 / 255, "spectrogram": 0.2, "waveform": 0.1}


@pytest.fixture(scope="module")
def network():
    with pytest.MonkeyPatch.context() as patch:
        use_shallow_network(patch)
        yield


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return write_speech(tmp_path_factory.mktemp("images") / "speech")


@pytest.fixture(scope="module")
def run(speech, network):
    out = speech.parent / "run"
    argv = ["--out", str(out), "--corpus.root", str(speech), *FLAGS]
    argv += ["--training.report_train", "true"]
    assert train.main(argv) == 0
    return out


def test_a_run_tells_of_windows_and_of_whole_utterances(run):
    results = json.loads((run / "results.json").read_text())
    assert {"train", "val", "test"} <= results.keys()
    test = results["test"]
    assert test["rows"] > test["utterances"] == test["whole_utterances"]["utterances"]
    assert test["whole_utterances"]["accuracy"]["value"] > 0.8
    notes = results["notes"]
    assert any("windows of 0.25 s, one every 125 ms" in note for note in notes)
    assert "shallow was trained from scratch, not from ImageNet weights" in notes
    config, _ = read_run(run)
    # What was left open is written down as what it came to.
    assert (config.features.n_fft, config.features.n_bins) == (30, 84)


@pytest.mark.long
@pytest.mark.parametrize("domain", ["image", "spectrogram"])
def test_images_are_certified_and_attacked_under_noise(run, domain, tmp_path, capsys):
    argv = ["--victim", str(run), "--domain", domain, "--limit", "3"]
    noise = ["--sigma", "0.3", "--samples0", "5", "--samples", "30", "--alpha", "0.05"]
    assert certify.main([*argv, *noise, "--out", str(tmp_path / "c")]) == 0
    printed = capsys.readouterr().out
    assert f"randomised smoothing of the {domain} of shallow" in printed
    assert "nor of speech: it is no certificate of waveforms" in printed
    assert "SNR" not in printed
    rows = read_certificates(tmp_path / "c").to_pylist()
    assert {row["domain"] for row in rows} == {domain}
    assert all(np.isnan(row["radius_snr"]) and sum(row["counts"]) == 30 for row in rows)
    smoothing = ["--smoothing", "0.3", "--smoothing_samples", "2"]
    l2 = ["--params", "norm=l2", "steps=2", "--epsilon", "0.5", "--out", str(tmp_path / "a")]
    assert attack.main([*argv, *smoothing, "--attack", "pgd", *l2]) == 0
    (first, *_) = read_rows(tmp_path / "a").to_pylist()
    assert (first["smoothing"], first["domain"]) == (0.3, domain)
    assert first["victim"].startswith("shallow[σ=0.3,n=2] ")


def test_the_range_of_db_is_that_of_the_training_part(run):
    victim = load_victim(run, "image")
    found = {name: float(victim.variables["batch_stats"][name]) for name in ("lowest", "highest")}
    assert -100 < found["lowest"] < found["highest"] < 50
    assert victim.input_shape == (16, 16, 3)
    assert victim.bounds == (0.0, 1.0)
    assert load_victim(run, "spectrogram").input_shape == (16, 16, 1)
    assert load_victim(run).input_shape == (250,)


@pytest.mark.parametrize("domain", COPIES)
def test_rows_say_what_the_change_is_as_a_spectrogram(run, domain, capsys):
    argv = ["--victim", str(run), "--attack", "fgsm", "--epsilon", str(COPIES[domain])]
    assert attack.main([*argv, "--domain", domain]) == 0
    printed = capsys.readouterr().out
    assert "whole utterances, by the mean of the logits of their windows" in printed
    (folder,) = (line.removeprefix("rows in ") for line in printed.splitlines()[-1:])
    rows = read_rows(folder)
    (source,) = read_sources(folder)
    assert source["corpus"]["cut"] == "windows of 0.25 s, one every 125 ms"
    assert set(rows["domain"].to_pylist()) == {domain}
    defined = {
        name
        for name in ("colour_distance", "decibel_change", "dead_gradients")
        if not np.isnan(rows[name].to_numpy()).any()
    }
    assert (
        defined
        == {
            "image": {"colour_distance", "decibel_change"},
            "spectrogram": {"decibel_change", "dead_gradients"},
            "waveform": {"dead_gradients"},
        }[domain]
    )
    assert ("off colour" in printed) == (domain == "image")
    names = load_victim(run).labels
    logits = np.array(rows["logits"].to_pylist())
    assert [names[i] for i in logits.argmax(axis=1)] == rows["prediction"].to_pylist()


def test_the_map_of_the_last_layer_is_written_with_its_points(run, capsys):
    argv = ["--victim", str(run), "--domain", "image", "--attack", "pgd", "--epsilon", "0.1"]
    argv += ["--params", "steps=2", "--show", "tsne"]
    assert explain.main([*argv, "--limit", "12", "--perplexity", "5"]) == 0
    assert (run / "explain" / "tsne.png").stat().st_size > 5_000
    table = (run / "explain" / "tsne.csv").read_text().splitlines()
    assert len(table) == 1 + 2 * 12
    assert "12 inputs, accuracy" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"perplexity of 30 needs more .* --show without tsne"):
        explain.main([*argv, "--limit", "12"])


@pytest.mark.parametrize("domain", short_and_long(["image", "waveform"], ["image"]))
def test_what_a_network_looks_at_is_drawn_whatever_is_attacked(run, domain, tmp_path, capsys):
    argv = ["--victim", str(run), "--domain", domain, "--attack", "pgd", "--epsilon", "0.1"]
    argv += ["--params", "steps=1", "--limit", "6", "--steps", "4", "--out", str(tmp_path)]
    shown = ["gradcam", "integrated", "agreement"]
    assert explain.main([*argv, "--show", *shown]) == 0
    files = {path.name for path in tmp_path.iterdir() if path.stat().st_size > 5_000}
    assert files >= {"gradcam.png", "integrated.png", "agreement.png"}
    printed = capsys.readouterr().out
    assert "integrated gradients add up to the difference of the logits within" in printed
    # Named beside agreement, paths are measured over all utterances too.
    table = (tmp_path / "agreement.csv").read_text()
    methods = ("saliency", "gradcam", "integrated")
    assert [table.count(f",{name},") for name in methods] == [5, 5, 5]


def test_what_cannot_be_attacked_or_trained_is_one_sentence(run, speech, network, tmp_path):
    with pytest.raises(UsageError, match="--save_wav is of speech; leave it out with --domain im"):
        attack.main(["--victim", str(run), "--domain", "image", "--save_wav", "--attack", "fgsm"])
    with pytest.raises(UsageError, match="no features to attack; use the domain waveform or"):
        attack.main(["--victim", str(run), "--domain", "features", "--attack", "fgsm"])
    common = ["--out", str(tmp_path / "new"), "--corpus.root", str(speech), *FLAGS]
    for flags, said in (
        (
            ["--features.image_size", "20"],
            "reads images of 16 by 16, not of 20; set features.image",
        ),
        (["--features.kind", "waveform"], "reads images of spectrograms, and waveform is none"),
        (["--features.kind", "cqt", "--features.bins_per_octave", "12"], "half the sample rate"),
        (["--features.kind", "mfcc", "--features.n_mels", "8"], "of 8 mel bands"),
        (["--features.decibels", "-7", "-90"], "a smaller and a larger value"),
        (["--corpus.stride_ms", "0"], "stride_ms"),
    ):
        with pytest.raises((UsageError, InputError), match=said):
            train.main([*common, *flags])


@pytest.fixture(scope="module")
def tables(speech, network):
    """Table files of a paper that trains one victim on this speech."""
    folder = speech.parent / "tables"
    folder.mkdir()
    sections: dict[str, dict[str, object]] = {}
    for name, value in zip(FLAGS[::2], FLAGS[1::2], strict=True):
        section, key = name.removeprefix("--").split(".")
        sections.setdefault(section, {})[key] = yaml.safe_load(value)
    sections["corpus"]["split"] = "file"
    sections["training"] |= {"report_train": True, "image_augmentation": True}
    (folder / "victim_csv.yaml").write_text(yaml.safe_dump(sections))
    common = {
        "title": "A paper",
        "corpora": ["csv"],
        "victims": {"Shallow": str(folder / "victim_{corpus}.yaml")},
    }
    first = {**common, "layout": "trained", "kinds": ["linear", "mfcc"], "seeds": [0, 1]}
    first["published"] = [["linear", "Shallow", 0.75, 0.9]]
    (folder / "one.yaml").write_text(yaml.safe_dump(first))
    fgsm = {"name": "FGSM", "attack": "fgsm", "epsilon": [0.1254901961]}
    second = {**common, "layout": "defended", "kind": "linear", "domain": "image"}
    second |= {"corpus": "Theirs", "attacks": [fgsm], "remarks": ["A misprint."]}
    second["published"] = [["Shallow", "FGSM", *[0.5] * 10]]
    second["readings"] = [["Shallow (read otherwise)", "FGSM", *[0.25] * 10]]
    (folder / "two.yaml").write_text(yaml.safe_dump(second))
    return folder


def test_a_table_trains_what_is_missing_and_shows_the_papers_figures(tables, speech, capsys):
    runs = tables / "runs"
    argv = [str(tables / "one.yaml"), "--corpus", f"csv={speech}", "--runs", str(runs)]
    argv += ["--kinds", "linear", "--seeds", "1", "--set", "training.epochs=2"]
    assert evaluate.main([*argv, "--out", str(tables / "out")]) == 0
    printed = capsys.readouterr().out
    assert "75.0%" in printed
    results = json.loads((runs / "victim_csv_linear" / "results.json").read_text())
    assert f"{results['test']['accuracy']['value']:.1%}" in printed
    counts = [np.sum(results[part]["confusion"]) for part in ("train", "test")]
    values = [results[part]["accuracy"]["value"] for part in ("train", "test")]
    assert f"{np.average(values, weights=counts):.1%}" in printed
    assert (tables / "out" / "one.csv").exists()
    # A second start reads what is there; other settings are refused.
    before = (runs / "victim_csv_linear" / "results.json").stat().st_mtime_ns
    assert evaluate.main(argv) == 0
    assert (runs / "victim_csv_linear" / "results.json").stat().st_mtime_ns == before
    with pytest.raises(
        UsageError, match=r"a run with training\.epochs 2, not 1; give another --runs"
    ):
        evaluate.main([*argv, "training.epochs=1"])

    # The undefended half of the second table, on the same victims.
    argv[0] = str(tables / "two.yaml")
    argv = [*argv[:5], *argv[9:], "--limit", "6"]
    assert evaluate.main([*argv, "--defended", "none"]) == 0
    printed = capsys.readouterr().out
    assert "Shallow (read otherwise)" in printed
    assert "A misprint." in printed
    clean, line = (line for line in printed.splitlines() if line.strip().startswith("speech"))
    assert clean.split()[1:3] == ["shallow", "none"]
    assert line.split()[1:3] == ["shallow", "FGSM"]
    assert line.split()[-1] == "–"
    with pytest.raises(UsageError, match="in the units of the waveform"):
        evaluate.main([*argv, "--domain", "waveform"])

    # The defended half: one more victim, trained against the attack of the line. What is said of
    # that is not of the undefended one, which is there.
    share = ["training.epochs=2", "training.adversarial.share=1"]
    own = ["--out", str(tables / "own"), "--set", *share]
    assert evaluate.main([*argv, *own]) == 0
    printed = capsys.readouterr().out
    clean, line = (line for line in printed.splitlines() if line.strip().startswith("speech"))
    assert clean.split()[1:3] == ["shallow", "none"]
    assert line.split()[-1] != "–"
    hardened = runs / "victim_csv_linear_against_fgsm_0.1255"
    section = yaml.safe_load((hardened / "config.yaml").read_text())["training"]["adversarial"]
    assert (section["attack"], section["domain"]) == ("fgsm", "image")
    assert section["epsilon"] == [0.1254901961]
    assert section["share"] == 1


@pytest.mark.long
def test_the_matrix_has_every_defence_under_every_attack(tables, speech, capsys):
    argv = [str(tables / "two.yaml"), "--corpus", f"csv={speech}", "--limit", "4"]
    argv += ["--runs", str(tables / "matrix_runs"), "--out", str(tables / "matrix")]
    assert evaluate.main([*argv, "--defended", "all", "--set", "training.epochs=2"]) == 0
    with (tables / "matrix" / "two_matrix_1.csv").open() as file:
        header, *lines = list(csv.reader(file))
    assert header == ["trained against", "no attack", "FGSM", "AutoAttack", "worst"]
    assert [line[0] for line in lines] == ["none", "FGSM"]
    for _, clean, fgsm, auto, worst in lines:
        clean, fgsm, auto, worst = (float(x.split("%")[0]) for x in (clean, fgsm, auto, worst))
        # Right under all attacks is rarer than right under the worst of them.
        assert worst <= min(fgsm, auto)
        assert auto <= clean
    assert (tables / "matrix" / "two_matrix_1.png").stat().st_size > 1000


def test_a_table_over_epsilon_is_of_defences(tables):
    epsilon = yaml.safe_load((tables / "two.yaml").read_text())
    epsilon |= {"layout": "epsilon", "published": [], "readings": []}
    (tables / "epsilon.yaml").write_text(yaml.safe_dump(epsilon))
    argv = [str(tables / "epsilon.yaml"), "--corpus", "csv=x", "--defended", "none"]
    with pytest.raises(UsageError, match="leave out --defended none"):
        evaluate.main(argv)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([], "say where speech lies, --corpus csv=FOLDER"),
        (["--corpus", "emodb=x"], "has no corpus 'emodb'"),
        (["--corpus", "csv"], "not of the form NAME=FOLDER"),
        (["--corpus", "csv=x", "--lines", "Deep"], "has no 'Deep'"),
        (["--corpus", "csv=x", "--kinds", "mel"], "has no 'mel'"),
        (["--corpus", "csv=x", "--set", "epochs"], "not of the form KEY=VALUE"),
        (["--corpus", "csv=x", "--limit", "FGSM=3"], "must be one number of 1 or more"),
        (["--corpus", "csv=x", "--limit", "0"], "must be one number of 1 or more"),
        (["--victim", "runs/x"], "trains its victims"),
        (["--root", "x"], "--root means nothing to .*; give --corpus"),
    ],
)
def test_what_a_table_cannot_train_is_one_sentence(tables, changes, said):
    with pytest.raises(UsageError, match=said):
        evaluate.main([str(tables / "one.yaml"), *changes])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["--attacks", "Foo"], "has no 'Foo'"),
        (["--epsilon", "0"], "--epsilon must be positive and finite, not 0"),
        (["--epsilon", "0.1", "nan"], "--epsilon must be positive and finite, not 0.1 nan"),
        (["--epsilon", "0.1", "0.1"], "the same budget twice"),
        (["--set", "training.adversarial.replays=0"], "training.adversarial.replays"),
        (["--set", "training.adversarial.beta=1"], "beta is of t"),
        (["--attacks", "Square"], "square is no attack to train against"),
    ],
)
def test_what_a_later_run_cannot_do_is_said_before_any_is_trained(tables, tmp_path, changes, said):
    content = yaml.safe_load((tables / "two.yaml").read_text())
    content["attacks"].append({"name": "Square", "attack": "square", "epsilon": [0.1]})
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(content))
    argv = [str(tmp_path / "table.yaml"), "--corpus", "csv=x", "--runs", str(tmp_path / "runs")]
    if "--attacks" not in changes:
        argv += ["--attacks", "FGSM"]
    with pytest.raises(UsageError, match=said):
        evaluate.main([*argv, *changes])
    assert not (tmp_path / "runs").exists()


def test_two_lines_of_one_folder_are_refused(tables, tmp_path):
    content = yaml.safe_load((tables / "two.yaml").read_text())
    first = content["attacks"][0]
    content["attacks"].append({**first, "name": first["name"].swapcase()})
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(content))
    argv = [str(tmp_path / "table.yaml"), "--corpus", "csv=x", "--runs", str(tmp_path / "runs")]
    with pytest.raises(UsageError, match="two runs would share the folder"):
        evaluate.main(argv)
    assert not (tmp_path / "runs").exists()


def test_budgets_that_are_nearly_alike_have_folders_of_their_own(tables, tmp_path):
    argv = [str(tables / "two.yaml"), "--corpus", "csv=x", "--runs", str(tmp_path / "runs")]
    # That there is no such corpus is found out after that.
    with pytest.raises(InputError, match="no file or folder x"):
        evaluate.main([*argv, "--epsilon", "0.100001", "0.100002"])
