"""`minigan evaluate`: which metrics, with which protocol, and what is refused."""

import json
import os
import shutil
from pathlib import Path

import celeba_factory as factory
import numpy as np
import pytest
import tiny
from hostile import sentence
from PIL import Image

import minigan
from minigan import commands
from minigan.data import digits, faces
from minigan.data.images import to_pixels
from minigan.data.mixture import Mixture
from minigan.errors import UserError
from minigan.evaluation import classifier, inception_file, report, table, train_classifier
from minigan.evaluation.filters import blur
from minigan.evaluation.metrics import frechet_distance
from minigan.evaluation.samples import FEATURES, Samples, digest
from minigan.keys import generator, noise
from minigan.nn import Module
from minigan.training import checkpoint, estimate, evaluation, session
from minigan.training.looks import draw_samples
from minigan.training.run import Run, numbered_runs

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
RUNS = {"ring": "dcgan", "faces": "dcgan", "digits": "conditional", "seasons": "cyclegan"}


@pytest.fixture(autouse=True)
def somewhere_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a tiny run on each kind of data in RUNS, of two steps with a checkpoint each."""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        tiny.hurry(patch)
        for data, member in RUNS.items():
            flags = ("--steps", 2, "--checkpoint-every", 1)
            assert tiny.start(folder, member, data, *flags) == 0
    return folder


@pytest.fixture
def runs(base):
    """{kind of data: its run}, without an evaluation."""
    found = dict(zip(RUNS, map(Run, numbered_runs(base)), strict=True))
    for run in found.values():
        (run.folder / report.FILE).unlink(missing_ok=True)
    return found


def evaluate(where, *flags, code=0):
    assert commands.main(["evaluate", str(where), "--device", "cpu", *map(str, flags)]) == code


def written(run):
    return json.loads((run.folder / report.FILE).read_text())


def refused(capsys, where, *flags):
    """The sentence with which an evaluation is refused; nothing may be written."""
    capsys.readouterr()
    evaluate(where, *flags, code=1)
    out, err = capsys.readouterr()
    assert (out, err[:7], err.count("\n")) == ("", "error: ", 1)
    return err


# -- what it measures -----------------------------------------------------------------------


@pytest.mark.parametrize("data", RUNS)
def test_by_default_all_that_makes_sense_is_measured(runs, data, capsys):
    run = runs[data]
    evaluate(run.folder, *(["--n", "50"] if data == "ring" else []))
    found = written(run)
    assert (found["format"], found["step"]) == (report.FORMAT, 2)
    assert list(found["metrics"]) == table.usual(data, data == "digits")
    lines = capsys.readouterr().out.splitlines()
    for name, entry in found["metrics"].items():
        assert list(entry["values"]) == list(entry["reals"])
        for key, value in entry["values"].items():
            assert np.isfinite(value)
            (line,) = (each for each in lines if each.startswith(f"{name} {key} "))
            assert line.split()[2:] == [f"{value:.4g}", f"{entry['reals'][key]:.4g}"]
        protocol = entry["protocol"]
        assert protocol["n"] == (50 if data == "ring" else 10)  # half of 20 images
        assert protocol["fingerprint"] == run.config["identity"]["fingerprint"][:12]
        assert (protocol["seed"], protocol["average"], protocol["data"]) == (0, True, data)
        assert ("digest" in protocol) == (table.METRICS[name].features != "")


def test_the_default_for_each_kind_of_data():
    assert table.usual("ring", False) == ["modes", "earth_mover"]
    images = ["frechet_", "kernel_", "precision_recall_", "density_coverage_"]
    fitting = lambda features: [each + features for each in images]
    assert table.usual("celeba", False) == [*fitting("random"), "swd", "ms_ssim"]
    assert table.usual("faces", False) == [*fitting("faces"), "swd", "ms_ssim", "attributes"]
    assert table.usual("shapes", False) == [*fitting("shapes"), "swd", "ms_ssim", "classes"]
    assert table.usual("digits", True)[-2:] == ["classes", "asked"]
    inception = ["fid", "kid", "precision_recall_inception", "density_coverage_inception", "is"]
    assert [name for name in table.usual("celeba", False, True) if name in inception] == inception
    assert table.usual("ring", False, True) == table.usual("ring", False)


def test_the_numbers_are_those_of_these_samples(runs):
    """By hand: which reals, which noise, which classes, and 256 levels."""
    run = runs["digits"]
    evaluate(run.folder, "--metrics", "frechet_pixels,asked", "--n", "8", "--seed", "3")
    member, _, _ = session.load(run.folder, print)
    data = session.reopen(run, None, print)
    at = generator(3, "evaluated reals").permutation(20)
    z = noise(generator(3, "evaluated fakes"), (8, 8), "normal")
    y = data.labels[at[:8]]
    pixels = np.rint((draw_samples(member, run.folder, False, "cpu", z, y) + 1) * 127.5)
    real, other = (data.batch(part, "cpu").numpy().reshape(8, -1) for part in (at[:8], at[8:16]))
    entry = written(run)["metrics"]["frechet_pixels"]
    fakes = (pixels / 127.5 - 1).reshape(8, -1)
    # float32 pixels of about 1: a sum of 256 squares is off by less than 1e-5 of it
    assert entry["values"]["distance"] == pytest.approx(frechet_distance(real, fakes), rel=1e-5)
    assert entry["reals"]["distance"] == pytest.approx(frechet_distance(real, other), rel=1e-5)
    net = classifier.load("digits")
    read = net.answer(net.describe(pixels.astype(np.float32) / 127.5 - 1)).argmax(1)
    assert written(run)["metrics"]["asked"]["values"]["share"] == (read == y).mean()


def test_a_member_that_translates_is_judged_by_translations_of_its_data(runs):
    """Each real of the first set beside a translation into its class, of an image of the other."""
    run = runs["seasons"]
    evaluate(run.folder, "--metrics", "frechet_pixels", "--n", "8", "--seed", "3")
    data = session.reopen(run, None, print)
    at = generator(3, "evaluated reals").permutation(20)[:8]
    y, order = data.labels[at], {}
    for k in (0, 1):
        order[k] = generator(3, "evaluated fakes", k).permutation(np.flatnonzero(data.labels == k))
    chosen = [order[1 - k][list(y[:i]).count(k)] for i, k in enumerate(y)]
    x = data.batch(np.array(chosen), "cpu").numpy()
    member, _, _ = session.load(run.folder, print)
    pixels = np.rint((draw_samples(member, run.folder, False, "cpu", x, y) + 1) * 127.5)
    real, fakes = data.batch(at, "cpu").numpy().reshape(8, -1), (pixels / 127.5 - 1).reshape(8, -1)
    found = written(run)["metrics"]["frechet_pixels"]["values"]["distance"]
    # float32 pixels of about 1: a sum of 768 squares is off by less than 1e-5 of it
    assert found == pytest.approx(frechet_distance(real, fakes), rel=1e-5)


def test_the_same_seed_gives_the_same_file_and_another_seed_other_samples(runs):
    run, found = runs["digits"], []
    for seed in (5, 5, 6):
        evaluate(run.folder, "--metrics", "ms_ssim", "--seed", seed)
        found.append((run.folder / report.FILE).read_bytes())
    assert found[0] == found[1] != found[2]


def test_raw_measures_g_itself(runs):
    run, found = runs["faces"], []
    for flags in ([], ["--raw"]):
        evaluate(run.folder, "--metrics", "ms_ssim", *flags)
        found.append(written(run)["metrics"]["ms_ssim"])
    assert found[0]["values"] != found[1]["values"]
    assert [each["protocol"]["average"] for each in found] == [True, False]


def test_from_python_the_numbers_are_the_same(runs):
    run = runs["digits"]
    evaluate(run.folder, "--metrics", "swd,asked", "--n", "9", "--seed", "4", "--raw")
    found = minigan.load(run.folder).evaluate(["swd", "asked"], 9, seed=4, raw=True)
    assert found == written(run)["metrics"]
    for n, seed in ((0, 0), (True, 0), (2.5, 0), (9, -1), (9, "x")):
        with pytest.raises(UserError, match="must be a whole number"):
            minigan.load(run.folder).evaluate(n=n, seed=seed)


def test_standard_errors_are_those_of_halves(runs, capsys):
    run = runs["digits"]
    evaluate(run.folder, "--metrics", "asked,frechet_pixels", "--errors")
    entry = written(run)["metrics"]["asked"]
    assert list(entry["errors"]) == ["share"]
    (line,) = (l for l in capsys.readouterr().out.splitlines() if l.startswith("asked share"))
    columns = entry["values"], entry["errors"], entry["reals"]
    assert line.split()[2:] == [f"{each['share']:.4g}" for each in columns]


def test_the_standard_error_of_a_share_is_the_known_one():
    """sqrt(p (1 - p) / n), known from 20 halves to within 16 %; three times that is allowed."""
    labels = np.arange(400) % 10
    x, _ = train_classifier.draw("digits", 1, 400)
    asked = np.where(np.arange(400) < 100, (labels + 1) % 10, labels)  # a quarter is wrong
    real, fake = Samples("digits", x, labels), Samples("digits", x, asked)
    (entry,) = table.evaluate(["asked"], real, real, fake, errors=True).values()
    assert entry["values"]["share"] == pytest.approx(0.75, abs=0.01)
    assert entry["errors"]["share"] == pytest.approx(np.sqrt(0.75 * 0.25 / 400), rel=0.48)


def test_a_checkpoint_of_a_run_is_measured_in_its_run(runs, capsys):
    run = runs["digits"]
    evaluate(checkpoint.path_of(run.checkpoints, 1), "--metrics", "swd")
    assert written(run)["step"] == 1


def cats(folder, count, first):
    """Pictures of one colour each."""
    images = [Image.new("RGB", (16, 16), (first + i, 2 * i, 0)) for i in range(count)]
    data = {f"{i}.bmp": factory.encoded(image, "BMP") for i, image in enumerate(images)}
    return factory.write_files(Path(folder), data)


def test_other_data_can_be_compared_with_and_is_told_apart(monkeypatch, capsys):
    tiny.hurry(monkeypatch)
    flags = ["--metrics", "frechet_random,precision_recall_pixels"]
    run = tiny.train("runs", "--dataroot", cats("cats", 12, 0), "--steps", 1)
    found = []
    for where in ([], ["--dataroot", "moved"], ["--dataroot", cats("others", 9, 100)]):
        if where == ["--dataroot", "moved"]:
            Path("cats").rename("moved")
        capsys.readouterr()
        evaluate(run.folder, *flags, *where, "--n", 4)
        found.append((capsys.readouterr().out, written(run)["metrics"]["frechet_random"]))
    assert ["which it was not trained on" in out for out, _ in found] == [False, False, True]
    protocols = [entry["protocol"] for _, entry in found]
    assert protocols[0] == protocols[1]
    assert [protocol["reals"] for protocol in protocols] == [12, 12, 9]
    assert protocols[0]["fingerprint"] != protocols[2]["fingerprint"]
    assert (protocols[0]["resize"], protocols[0]["crop"]) == ("bilinear", "centre")
    assert "frechet_random cannot be compared with that of step 1: fingerprint was" in found[2][0]
    assert "nowhere does not exist" in refused(capsys, run.folder, "--dataroot", "nowhere")
    assert "cats does not exist" in refused(capsys, run.folder)


# -- with InceptionV3 ---------------------------------------------------------------------------


class FewNumbers(Module):
    """In place of InceptionV3: its features are six of the pixels."""

    def __init__(self, resize):
        self.resize, self.digest = resize, "0123456789ab"

    def describe(self, images):
        assert (images.dtype, images.shape[1:]) == (np.uint8, (3, 16, 16))
        return images[:, 0, 5, 4:10].astype(np.float32)

    def logits_unbiased(self, features):
        return features.astype(np.float64) / 50


@pytest.fixture
def inception(monkeypatch):
    monkeypatch.setattr(
        inception_file, "load", lambda path, resize, say: FewNumbers(resize) if path else None
    )


def test_with_inception_fid_and_others_are_measured_too(runs, inception):
    run = runs["digits"]
    evaluate(run.folder, "--inception", "x.pth")
    metrics = written(run)["metrics"]
    assert list(metrics) == table.usual("digits", True, True)
    fid = metrics["fid"]["protocol"]
    assert (fid["n"], fid["features"], fid["seed"]) == (10, "inception", 0)
    assert (fid["digest"], fid["inception_resize"]) == ("0123456789ab", "tensorflow")
    assert (metrics["kid"]["protocol"]["subsets"], metrics["is"]["protocol"]["splits"]) == (100, 10)
    assert metrics["is"]["values"] == {"score": 1, "deviation": 0}  # splits of one image each


def test_the_numbers_of_inception_are_those_of_its_features(runs, inception):
    run, net = runs["digits"], FewNumbers("tensorflow")
    flags = ("--metrics", "fid,is,frechet_pixels", "--n", "10", "--seed", "3")
    evaluate(run.folder, *flags, "--inception", "x.pth")
    member, _, _ = session.load(run.folder, print)
    data = session.reopen(run, None, print)
    at = generator(3, "evaluated reals").permutation(20)
    z = noise(generator(3, "evaluated fakes"), (10, 8), "normal")
    fakes = draw_samples(member, run.folder, False, "cpu", z, data.labels[at[:10]])
    features = lambda x: net.describe(to_pixels(x).transpose(0, 3, 1, 2))
    real, other = (features(data.batch(part, "cpu").numpy()) for part in (at[:10], at[10:]))
    found = written(run)["metrics"]["fid"]
    assert found["values"]["distance"] == frechet_distance(real, features(fakes))
    assert found["reals"]["distance"] == frechet_distance(real, other)


def test_the_inception_score_is_of_a_softmax_of_the_logits():
    """Images of two kinds, of which each split has as many: certain of two classes, exp(log 2)."""
    values = np.zeros((20, 1, 16, 16), np.float32)
    values[::2, 0, 5, 4], values[1::2, 0, 5, 5] = 1, 1
    net = FewNumbers("tensorflow")
    net.logits_unbiased = lambda features: 10.0 * features  # 1275 and 2550: no exp may overflow
    fake = Samples("celeba", values, None, net)
    assert fake.probabilities().sum(1).tolist() == [1] * 20
    assert table.METRICS["is"].measure(fake, fake, splits=1) == {"score": 2, "deviation": 0}


def test_numbers_of_two_ways_to_resize_are_not_compared(runs, inception, capsys):
    run = runs["digits"]
    flags = ("--metrics", "fid", "--inception", "x.pth")
    evaluate(run.folder, *flags)
    evaluate(run.folder, *flags, "--inception-resize", "clean-fid")
    out = capsys.readouterr().out
    assert "step 2: inception_resize was tensorflow and is clean-fid\n" in out
    found = minigan.load(run.folder).evaluate(
        ["fid"], inception="x.pth", inception_resize="clean-fid"
    )
    assert found == written(run)["metrics"]
    with pytest.raises(UserError, match="--inception-resize clean-fid: only --inception uses it"):
        minigan.load(run.folder).evaluate(["swd"], inception_resize="clean-fid")


def test_the_memory_of_the_features_counts(runs, inception, capsys, monkeypatch):
    monkeypatch.setattr(estimate, "free_memory", lambda device: 10**6)
    said = refused(capsys, runs["digits"].folder, "--metrics", "fid", "--inception", "x.pth")
    assert "--n 10 needs about 1.21 MB of memory, and 1 MB are free" in said


# -- what a collapse looks like -------------------------------------------------------------

BETTER = {  # whether more is better
    "recall": True, "coverage": True, "covered": True, "share": True, "distance": False,
    "similarity": False, "divergence": False, "difference": False, "mean": False,
}  # fmt: skip


def drawn(name, seed, count):
    x, y = train_classifier.draw(name, seed, count)
    return Samples(name, x, y[:, 0] if name != "faces" else None)


@pytest.mark.parametrize("kind", ["digits", "faces", "ring"])
def test_one_sample_repeated_is_worse_than_reals_in_every_number(kind):
    n = 60
    if kind == "ring":
        sets = [Samples(kind, Mixture(kind, n, seed).points) for seed in (1, 2)]
    else:
        sets = [drawn(kind, seed, n) for seed in (1, 2)]
    real, other = sets
    fake = Samples(kind, np.repeat(other.values[:1], n, axis=0), other.labels)
    names = [
        name for name in table.usual(kind, kind == "digits") if kind != "faces" or name != "swd"
    ]
    found = table.evaluate(names, real, other, fake)
    compared = []
    for name, entry in found.items():
        for key, value in entry["values"].items():
            # The one sample is a good one, so its precision, its density and its share are not worse.
            if key in BETTER and (name, key) != ("modes", "share"):
                reals = entry["reals"][key]
                assert (value < reals) if BETTER[key] else (value > reals), (name, key)
                compared.append(key)
    assert len(compared) == {"digits": 9, "faces": 7, "ring": 3}[kind]


def test_a_single_image_of_a_class_does_not_cover_it():
    x, y = train_classifier.draw("digits", 1, 100)
    ones = np.flatnonzero(y[:, 0] == 1)
    for strays, covered in ((2, 1), (3, 2)):  # a quarter of the fair share is 2.5 of 100
        at = [*np.resize(ones, 100 - strays), *np.flatnonzero(y[:, 0] == 2)[:strays]]
        fake = Samples("digits", x[at])
        assert table.METRICS["classes"].measure(fake, fake)["covered"] == covered


def test_similarity_does_not_depend_on_the_order_of_the_classes():
    """Drawn digits come in turn, so image i and image i + 50 are of one class."""
    x, _ = train_classifier.draw("digits", 1, 100)
    shuffled = x[generator(0).permutation(100)]
    similarity = lambda x: table.METRICS["ms_ssim"].measure(None, Samples("digits", x))[
        "similarity"
    ]
    assert abs(similarity(x) - similarity(shuffled)) < 0.15  # 0.4 apart if classes met
    assert similarity(x) < 0.45


def test_a_generator_whose_weights_are_zero_covers_one_class(runs):
    run = runs["digits"]
    member, game, _ = session.load(run.folder, print)
    for weight in member.players["G"].net.parameters():
        weight.data[...] = 0
    data = session.reopen(run, None, print)
    draw = lambda z, y: draw_samples(member, run.folder, True, "cpu", z, y)
    found = evaluation.evaluate(game, data, draw, ["classes", "precision_recall_digits"], 10)
    assert found["classes"]["values"] == {
        "covered": 1,
        "divergence": pytest.approx(np.log(10), rel=1e-12),  # rounding of float64
    }
    assert found["precision_recall_digits"]["values"]["recall"] == 0
    assert found["classes"]["reals"]["covered"] > 5


# -- what is not compared ------------------------------------------------------------------


def test_numbers_of_two_steps_stand_side_by_side(runs, capsys):
    run = runs["digits"]
    evaluate(checkpoint.path_of(run.checkpoints, 1), "--metrics", "ms_ssim")
    first = written(run)["metrics"]["ms_ssim"]["values"]["similarity"]
    evaluate(run.folder, "--metrics", "ms_ssim")
    out = capsys.readouterr().out
    assert out.count("at step 1\n") == 1
    row = out[out.rindex("ms_ssim similarity") :].splitlines()[0]
    assert row.split()[4] == f"{first:.4g}"
    assert "cannot be compared" not in out


@pytest.mark.parametrize(
    ("flags", "difference"),
    [
        (["--n", "9"], "n was 10 and is 9"),
        (["--seed", "1"], "seed was 0 and is 1"),
        (["--raw"], "average was True and is False"),
    ],
)
def test_numbers_of_another_protocol_are_not_compared(runs, capsys, flags, difference):
    evaluate(runs["digits"].folder, "--metrics", "ms_ssim")
    capsys.readouterr()
    evaluate(runs["digits"].folder, "--metrics", "ms_ssim,swd", *flags)
    out = capsys.readouterr().out
    assert f"ms_ssim cannot be compared with that of step 2: {difference}\n" in out
    (row,) = (line for line in out.splitlines() if line.startswith("ms_ssim similarity"))
    assert len(row.split()) == 4


def test_differences_name_what_is_missing_too():
    entry = lambda **protocol: {"values": {}, "reals": {}, "protocol": protocol}
    assert report.differences(entry(n=1), entry(n=1)) == []
    assert report.differences(entry(n=1, k=3), entry(n=1, size=5)) == [
        "size was not given and is 5",
        "k was 3 and is not given",
    ]


# -- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "flags", "message"),
    [
        ("digits", ["--metrics", "frechet_digit"], "'frechet_digit' is not known, did you mean fr"),
        (
            "digits",
            ["--metrics", "fed"],
            "--metrics 'fed' is not known, did you mean fid?; for --d",
        ),
        (
            "digits",
            ["--metrics", "fid"],
            "--metrics fid: it needs InceptionV3; give the path of its",
        ),
        ("ring", ["--inception", "x"], "--inception: none of the metrics needs it; drop it"),
        (
            "digits",
            ["--inception", "x", "--metrics", "swd"],
            "needs it; add one of fid, kid, precis",
        ),
        ("digits", ["--inception", "x"], "--inception x: No such file or directory; check that"),
        (
            "digits",
            ["--inception-resize", "clean-fid"],
            "clean-fid: only --inception uses it; drop",
        ),
        ("digits", ["--metrics", ""], "--metrics '' is not known; for --data digits there are"),
        ("digits", ["--metrics", "modes"], "--metrics modes: it is for ring, grid, not for digits"),
        ("ring", ["--metrics", "modes,swd"], "--metrics swd: it is for faces, celeba, "),
        ("faces", ["--metrics", "classes"], "--metrics classes: it is for digits, shapes, not for"),
        ("faces", ["--metrics", "asked"], "--metrics asked: it is for digits, shapes, not for fa"),
        ("digits", ["--n", "0"], "--n 0: must be a whole number from 1 to 50000"),
        ("digits", ["--n", "11"], "--n 11: two sets of so many reals need 22, and the data has 20"),
        ("digits", ["--n", "5"], "--n 5: density_coverage_digits needs at least 6 samples; give"),
        (
            "digits",
            ["--errors"],
            "--n 10: density_coverage_digits needs at least 12 samples for --err",
        ),
        ("digits", ["--seed", "-1"], "--seed -1: must be a whole number from 0 to"),
        ("digits", ["--dataroot", "x"], "--dataroot x: --data digits reads no files; drop one"),
        ("digits", ["--device", "abacus"], "abacus"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(runs, capsys, data, flags, message):
    assert message in refused(capsys, runs[data].folder, *flags)
    assert not (runs[data].folder / report.FILE).exists()


def test_classes_that_nobody_asked_for_cannot_be_compared():
    with pytest.raises(UserError, match="asked: this generator is not asked for classes; leave"):
        table.check(["asked"], "digits", False, 100)


def test_data_that_is_not_at_hand_is_refused(runs, capsys, monkeypatch):
    run = runs["faces"]
    config = json.loads((run.folder / "config.json").read_text())
    changed = json.dumps({**config, "identity": {"fingerprint": "0", "count": 7}})
    monkeypatch.setattr(Run, "config", property(lambda run: json.loads(changed)))
    said = refused(capsys, run.folder)
    assert "these 20 samples are not the 7 with which" in said


@pytest.mark.parametrize("other", ["ring", "faces"])
def test_a_checkpoint_of_another_run_is_refused(runs, base, capsys, other):
    """The stranger's config.json is of digits with classes, its checkpoint of something else."""
    shutil.copytree(base, "copy")
    mixed, source = Path("copy") / runs["digits"].folder.name, runs[other]
    content = checkpoint.path_of(source.checkpoints, 2).read_bytes()
    checkpoint.path_of(mixed / "checkpoints", 2).write_bytes(content)
    assert "config.json describes another generator than the run's ch" in refused(capsys, mixed)
    with pytest.raises(UserError, match="describes another generator"):
        minigan.load(mixed).evaluate()


def test_more_samples_than_fit_into_memory_are_refused(runs, capsys, monkeypatch):
    monkeypatch.setattr(estimate, "free_memory", lambda device: 10**5)
    needed = 6 * 10 * 4 * 256  # 6 sets of 10 images of 16 x 16 in float32
    assert needed < 10**5
    evaluate(runs["digits"].folder, "--metrics", "ms_ssim")
    said = refused(capsys, runs["digits"].folder, "--metrics", "frechet_pixels")
    assert "--n 10 needs about 184 KB of memory, and 100 KB are free; give a smaller --n" in said


def test_a_checkpoint_outside_a_run_is_refused(runs, capsys):
    content = checkpoint.path_of(runs["ring"].checkpoints, 2).read_bytes()
    for name in ("step-00000002.safetensors", "best.safetensors"):
        Path(name).write_bytes(content)
        assert "is not a checkpoint in a run, so its data is unknown" in refused(capsys, name)
    assert "runs/ has no run with a checkpoint" in refused(capsys, "auto")


GOOD = {"values": {"mean": 1.0}, "reals": {"mean": 1}, "errors": {}, "protocol": {"n": 3}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b" " * (2**20 + 1), "is not JSON: it has more than 1,048,576 bytes"),
        (b"[]", f"is not {report.FORMAT!r}"),
        ({"format": "other"}, f"is not {report.FORMAT!r}"),
        ({"more": 1}, f"is not {report.FORMAT!r}"),
        ({"step": True}, "step True is not one"),
        ({"step": -1}, "step -1 is not one"),
        ({"step": "\x1b[31m"}, "step '\\x1b[31m' is not one"),
        ({"metrics": []}, "metrics is not a table of numbers with protocols"),
        ({"metrics": {"swd": 1}}, "metrics is not a table"),
        ({"metrics": {"swd": {**GOOD, "more": {}}}}, "metrics is not a table"),
        ({"metrics": {"swd": {**GOOD, "protocol": []}}}, "metrics is not a table"),
        ({"metrics": {"swd": {**GOOD, "values": {"mean": "1"}}}}, "metrics is not a table"),
        ({"metrics": {"swd": {**GOOD, "values": {"mean": True}}}}, "metrics is not a table"),
        ({"metrics": {"swd": {**GOOD, "values": {"mean": 10**400}}}}, "metrics is not a table"),
        ({"metrics": {"swd": {**GOOD, "errors": {"mean": None}}}}, "metrics is not a table"),
        ({"metrics": {"swd": {**GOOD, "reals": {"mean": float("nan")}}}}, "metrics is not a t"),
    ],
)
def test_an_evaluation_that_this_program_did_not_write_is_refused(runs, capsys, content, message):
    path = runs["ring"].folder / report.FILE
    if isinstance(content, dict):
        table = {"format": report.FORMAT, "step": 2, "metrics": {"swd": GOOD}} | content
        content = json.dumps(table).encode()
    path.write_bytes(content)
    said = refused(capsys, runs["ring"].folder)
    assert said.startswith(f"error: {path}")
    assert message in said
    assert path.read_bytes() == content


def test_nothing_outside_the_run_is_written(runs, capsys):
    path, diary = runs["ring"].folder / report.FILE, Path("diary.txt").absolute()
    diary.write_text("{}")
    path.symlink_to(diary)
    assert f"{path}: it is a symbolic link, not a file" in refused(capsys, runs["ring"].folder)
    path.unlink()
    evaluate(runs["ring"].folder, "--n", "50")
    os.link(path, "linked.json")
    before = Path("linked.json").read_bytes()
    evaluate(runs["ring"].folder, "--n", "60")
    assert (diary.read_text(), Path("linked.json").read_bytes()) == ("{}", before)
    assert path.read_bytes() != before


def test_a_strangers_metrics_and_protocol_do_no_harm(runs, capsys):
    """They are of the right form, but of unknown names and endless length."""
    entry = {**GOOD, "protocol": {"n" * 5000: ["\x1b[2J"] * 5000}}
    found = {"format": report.FORMAT, "step": 9, "metrics": {"modes": entry, "\x1b": entry}}
    (runs["ring"].folder / report.FILE).write_text(json.dumps(found))
    evaluate(runs["ring"].folder, "--n", "50")
    out = capsys.readouterr().out
    assert "modes cannot be compared with that of step 9: n was not given and is 50\n" in out
    assert out.replace("\n", "").isprintable()
    assert len(out) < 2000


# -- the classifiers ------------------------------------------------------------------------


@pytest.mark.parametrize("name", classifier.QUESTIONS)
def test_a_shipped_classifier_is_as_good_as_it_says(name):
    recipe, count = classifier.recipe(name), 300 if name != "faces" else 100
    assert classifier.path_of(name).stat().st_size <= 1e6
    found = train_classifier.errors(name, classifier.load(name), count)
    assert list(found) == list(recipe["errors"]) == list(classifier.QUESTIONS[name])
    for question, error in found.items():
        stated = recipe["errors"][question]
        assert stated < (
            0.1 if question == "hair_colour" else 0.025
        )  # bald heads show it only in the brows
        # five standard errors of a share of this many, and at least two mistakes
        assert count * abs(error - stated) <= max(2, 5 * np.sqrt(count * stated * (1 - stated)))


def test_a_classifier_can_be_wrong():
    images, labels = train_classifier.draw("digits", train_classifier.UNSEEN, 200)
    net = classifier.load("digits")
    assert (net.answer(net.describe(-images)).argmax(1) == labels[:, 0]).mean() < 0.5
    blank = np.full_like(images, -1)
    assert len(np.unique(net.answer(net.describe(blank)).argmax(1))) == 1


def test_training_is_deterministic_and_learns():
    nets = [train_classifier.train("digits", 600, 2) for _ in range(2)]
    assert nets[0].digest == nets[1].digest != classifier.load("digits").digest
    # Guesses are wrong in 90 %; after this short training, 21 % are.
    assert train_classifier.errors("digits", nets[0], 300)["digit"] < 0.4
    features = nets[0].describe(train_classifier.draw("digits", train_classifier.LEARNT, 600)[0])
    assert (features**2).mean() == pytest.approx(1, rel=1e-4)  # float32


def test_a_trained_classifier_is_written_with_its_recipe(monkeypatch, capsys):
    """What is written and read again is the network, rounded to float16, with the error of that."""
    net = train_classifier.train("digits", 100, 1)
    monkeypatch.setattr(train_classifier, "train", lambda name: net)
    monkeypatch.setattr(train_classifier, "errors", lambda name, net: {"digit": net.digest})
    train_classifier.main(["digits", "--out", "."])
    monkeypatch.setattr(classifier, "path_of", lambda name: Path(f"{name}.safetensors"))
    classifier.load.cache_clear()
    found, recipe = classifier.load("digits"), classifier.recipe("digits")
    classifier.load.cache_clear()
    assert recipe.keys() == {
        *("images", "epochs", "batch", "lr", "seed", "tested", "test_seed", "errors")
    }
    assert recipe["errors"]["digit"] == found.digest
    for name, array in found.state_dict_numpy().items():
        assert (array == array.astype(np.float16)).all(), name
    assert "digits.safetensors: 219," in capsys.readouterr().out


@pytest.mark.skipif(not DEEP, reason="minutes")
@pytest.mark.parametrize("name", classifier.QUESTIONS)
def test_training_anew_gives_a_classifier_that_is_as_good(name):
    """On another machine rounding differs, so only the errors are compared, within one per cent."""
    found = train_classifier.errors(name, train_classifier.train(name))
    for question, error in classifier.recipe(name)["errors"].items():
        assert abs(found[question] - error) < 0.01


def test_images_are_fitted_to_the_classifier():
    x = np.linspace(-1, 1, 2 * 3 * 32 * 32, dtype=np.float32).reshape(2, 3, 32, 32)
    grey = classifier.fit(x, (1, 32, 32))
    # The luma weights of ITU-R BT.601, in float32
    expected = 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]
    np.testing.assert_allclose(grey, expected, atol=1e-6)
    colour = classifier.fit(grey, (3, 32, 32))
    assert colour.shape == (2, 3, 32, 32)
    np.testing.assert_array_equal(colour[:, 2], grey[:, 0])
    flat = classifier.fit(np.full((1, 3, 128, 128), 0.5, np.float32), (1, 28, 28))
    np.testing.assert_allclose(flat, 0.5, atol=1e-6)  # float32
    halved = classifier.fit(grey, (1, 16, 16))
    # Pillow's triangle of four pixels in each direction keeps the mean of a slope inside
    inner = grey.reshape(2, 16, 2, 16, 2).mean((2, 4))
    np.testing.assert_allclose(halved[:, 0, 1:-1, 1:-1], inner[:, 1:-1, 1:-1], atol=1e-5)


@pytest.mark.parametrize("name", FEATURES)
def test_features_are_rows_that_depend_on_the_image_alone(name):
    images = np.stack([digits.draw(0, i)[0].transpose(2, 0, 1) for i in range(4)])
    images = images.astype(np.float32) / 127.5 - 1
    found = Samples("mnist", images).features(name)
    assert found.shape == (4, 3 * 28 * 28 if name == "pixels" else classifier.FEATURES)
    np.testing.assert_array_equal(found[2:], Samples("mnist", images[2:]).features(name))
    assert len(np.unique(found, axis=0)) == 4
    assert len(digest(name, (3, 28, 28))) == (0 if name == "pixels" else 12)


def test_a_damaged_classifier_is_refused(monkeypatch, tmp_path):
    classifier.load.cache_clear()
    monkeypatch.setattr(classifier, "path_of", lambda name: tmp_path / f"{name}.safetensors")
    for content in (None, b"", b"x" * 100):
        if content is not None:
            (tmp_path / "digits.safetensors").write_bytes(content)
        with pytest.raises(UserError) as caught:
            classifier.load("digits")
        assert sentence(caught.value).endswith("; install minigan again")
    classifier.load.cache_clear()


def test_attributes_notice_a_missing_one():
    """Faces with glasses are left out of the fakes."""
    worn = [i for i in range(60) if faces.draw(1, i, 16)[1]["glasses"] == "yes"]
    x, _ = train_classifier.draw("faces", 1, 60)
    real, fake = Samples("faces", x), Samples("faces", np.delete(x, worn, axis=0))
    found = table.METRICS["attributes"]
    all_there, missing = found.measure(real, real), found.measure(real, fake)
    assert all_there["difference"] == 0
    assert missing["covered"] < all_there["covered"]
    assert missing["difference"] > 0.02


# -- the table in docs/14-evaluation.md -----------------------------------------------------

SHOWN = {  # the columns of the table
    "frechet_digits": ["distance"],
    "kernel_digits": ["distance"],
    "precision_recall_digits": ["precision", "recall"],
    "density_coverage_digits": ["density", "coverage"],
    "swd": ["mean"],
    "ms_ssim": ["similarity"],
    "classes": ["covered"],
}


def damaged(n):
    """Reals, and {row of the table: fakes}: other reals with something wrong with them."""
    x, y = train_classifier.draw("digits", 7, 3 * n)
    real, fresh, labels = x[:n], x[2 * n :], y[2 * n :, 0]
    rng = np.random.default_rng(0)
    wide = np.pad(fresh, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    noise = 0.2 * rng.standard_normal(fresh.shape)
    rows = {
        "other reals": fresh,
        "blurred": blur(wide, np.array([1, 2, 1]) / 4),
        "noisy": (fresh + noise).clip(-1, 1),
        "inverted": -fresh,
        "no nines": fresh[labels != 9],
        "100 images repeated": fresh[rng.integers(n // 10, size=n)],  # 100 of 1,000
        "one image repeated": np.repeat(fresh[:1], n, axis=0),
    }
    return Samples("digits", real), {
        name: Samples("digits", fakes.astype(np.float32)) for name, fakes in rows.items()
    }


def measured(real, fake, names=tuple(SHOWN)):
    real = real.take(slice(len(fake)))
    found = table.evaluate(names, real, real, fake)
    return [found[name]["values"][key] for name in names for key in SHOWN[name]]


def test_each_metric_notices_what_the_chapter_says():
    real, rows = damaged(300)
    names = [name for name in SHOWN if name not in ("swd", "kernel_digits")]
    found = {name: measured(real, fake, names) for name, fake in rows.items()}
    frechet, precision, recall, density, coverage, alike, covered = range(7)
    good = found["other reals"]
    assert all(found[name][frechet] > 2 * good[frechet] for name in rows if name != "other reals")
    assert found["inverted"][precision] == found["inverted"][density] == 0
    assert found["blurred"][recall] < good[recall] / 2
    # The images are real ones; a share of 30 images has a standard error of 0.05.
    assert found["100 images repeated"][precision] > good[precision] - 0.15
    assert found["one image repeated"][precision] in (0, 1)  # as that image is
    for name in ("100 images repeated", "one image repeated"):
        assert found[name][recall] < 0.1
        assert found[name][coverage] < 0.75 * good[coverage]
    assert found["one image repeated"][alike] == pytest.approx(1, abs=1e-9)  # float64
    assert found["100 images repeated"][alike] < good[alike] + 0.1
    expected = {"no nines": 9, "one image repeated": 1}
    for name in ("other reals", "no nines", "100 images repeated", "one image repeated"):
        assert found[name][covered] == expected.get(name, 10)


@pytest.mark.skipif(not DEEP, reason="a minute")
def test_the_table_of_the_chapter_is_true():
    """To three digits, of which rounding on another machine may move the last."""
    page = (tiny.ROOT / "docs/14-evaluation.md").read_text(encoding="utf-8")
    real, rows = damaged(1000)
    for name, fake in rows.items():
        (line,) = (each for each in page.splitlines() if each.startswith(f"| {name} |"))
        shown = [float(cell.replace("−", "-")) for cell in line.split("|")[2:-1]]
        np.testing.assert_allclose(shown, measured(real, fake), rtol=0.01, atol=2e-4)
