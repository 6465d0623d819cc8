"""Sources of classes: subfolders, CelebA's attributes, modes; and the notes about them."""

import json
import pickle
from pathlib import Path

import celeba_factory as factory
import numpy as np
import pytest
import tiny
from PIL import Image

from minigan.commands import main
from minigan.data import celeba
from minigan.data.attributes import FILE, class_names
from minigan.data.images import ImageSet
from minigan.data.kinds import KINDS
from minigan.data.mixture import Mixture
from minigan.data.opening import DataOptions, open_data
from minigan.data.subfolders import open_subfolders
from minigan.errors import UserError
from minigan.training import pictures
from minigan.training.plan import choose


@pytest.fixture(autouse=True)
def somewhere_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def bmp(value: int) -> bytes:
    return factory.encoded(Image.new("RGB", (16, 16), (value, 0, 0)), "BMP")


PETS = {
    "cats/1.bmp": bmp(1),
    "cats/more/2.bmp": bmp(2),
    "cats/z.bmp": bmp(3),
    "dogs/1.bmp": bmp(11),
    "dogs/2.bmp": bmp(12),
    "fish/1.bmp": bmp(21),
}


def opened(root, max_images=None, **options) -> ImageSet:
    chosen = DataOptions(data="folder", image_size=16, max_images=max_images, **options)
    root = root if isinstance(root, tuple) else str(root)
    return open_data(chosen, root, 0, Path("runs"), progress=False)


# -- subfolders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_the_first_subfolder_is_the_class(kind):
    root = factory.write_files(Path("pets"), PETS)
    if kind == "zip":
        root = factory.write_zip(Path("pets.zip"), PETS)
    data = opened(root)
    assert data.classes == ("cats", "dogs", "fish")
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 2]
    assert data.pixels[:, 0, 0, 0].tolist() == [1, 2, 3, 11, 12, 21]
    assert (data.labels.dtype, data.name, data.notes) == (np.int64, "folder16", [])
    assert data.identity["classes"] == ["cats", "dogs", "fish"]


@pytest.mark.parametrize(
    ("most", "values"),
    [(5, [1, 2, 11, 12, 21]), (4, [1, 2, 11, 21]), (3, [1, 11, 21]), (99, [1, 2, 3, 11, 12, 21])],
)
def test_max_images_takes_equally_many_of_each_class_while_there_are_any(most, values):
    data = opened(factory.write_files(Path("pets"), PETS), most)
    assert data.pixels[:, 0, 0, 0].tolist() == values
    assert data.labels.tolist() == [value // 10 for value in values]


def test_an_image_that_is_skipped_takes_its_label_along():
    files = {**PETS, "cats/1.bmp": b"broken", "dogs/1.bmp": b"", "fish/0.bmp": bmp(20)}
    data = opened(factory.write_files(Path("pets"), files))
    assert data.pixels[:, 0, 0, 0].tolist() == [2, 3, 12, 20, 21]
    assert data.labels.tolist() == [0, 0, 1, 2, 2]
    assert "2 files could not be used" in data.notes[-1]


def test_a_class_without_an_image_that_can_be_used_is_told():
    factory.write_files(Path("pets"), {**PETS, "fish/1.bmp": b"broken", "birds/a.heic": b"x"})
    Path("pets/snails").mkdir()
    Path("pets/.hidden").mkdir()
    data = opened("pets")
    assert data.classes == ("cats", "dogs", "fish")
    assert "left out subfolders without images: birds, snails." in data.notes
    assert "classes without an image: fish." in data.notes


DOMAINS = {
    f"{place}/{i}.bmp": bmp(10 * k + i)
    for k, place in enumerate(("trainA", "trainB"))
    for i in (1, 2)
}
HELD_OUT = {"testA/1.bmp": bmp(91), "testB/1.bmp": bmp(92)}


def test_two_domains_are_the_classes_and_their_test_images_are_left_out():
    """The layout of the folders that CycleGAN's authors publish."""
    data = opened(factory.write_files(Path("horses"), {**DOMAINS, **HELD_OUT}))
    assert (data.classes, data.labels.tolist()) == (("A", "B"), [0, 0, 1, 1])
    assert data.pixels[:, 0, 0, 0].tolist() == [1, 2, 11, 12]
    assert data.notes == ["left out testA and testB, which are not for training."]
    data = opened(Path("horses"), 2)
    assert data.pixels[:, 0, 0, 0].tolist() == [1, 11]
    factory.write_files(Path("only"), DOMAINS)
    Path("only/testA").mkdir()
    data = opened(Path("only"))
    assert (data.classes, len(data)) == (("A", "B"), 4)
    assert data.notes == ["left out subfolders without images: testA."]


def test_two_folders_or_zips_are_the_classes_too():
    factory.write_files(Path("summer"), {"2.bmp": bmp(2), "more/1.bmp": bmp(1), "x.txt": b"x"})
    winter = {"1.bmp": bmp(11), "3.bmp": bmp(13)}
    factory.write_files(Path("cold"), winter)
    factory.write_zip(Path("winter.zip"), winter)
    for second in ("cold", "winter.zip"):
        data = opened(("summer", second))
        assert (data.classes, data.labels.tolist()) == (("A", "B"), [0, 0, 1, 1])
        assert data.pixels[:, 0, 0, 0].tolist() == [2, 1, 11, 13]
        (note,) = data.notes
        assert note.startswith("ignored 1 ")
        assert opened(("summer", second), 2).pixels[:, 0, 0, 0].tolist() == [2, 11]
    assert opened((second, "summer")).pixels[:, 0, 0, 0].tolist() == [11, 13, 2, 1]


@pytest.mark.parametrize(
    ("roots", "words"),
    [
        (("summer", "nowhere"), "nowhere does not exist"),
        (("summer", "./summer"), "both are the same place"),
        (("summer", "winter"), "winter is an empty folder"),
        (("summer", "runs"), "is also the folder of --dataroot"),
    ],
)
def test_a_pair_of_folders_that_cannot_be_used_is_refused(roots, words):
    factory.write_files(Path("summer"), {"1.bmp": bmp(1)})
    Path("winter").mkdir()
    Path("runs").mkdir()
    with pytest.raises(UserError, match=words):
        opened(roots)


@pytest.mark.parametrize("more", ["trainC/1.bmp", "valA/1.bmp"])
def test_other_subfolders_beside_the_domains_are_classes(more):
    data = opened(factory.write_files(Path("more"), {**DOMAINS, **HELD_OUT, more: bmp(99)}))
    assert data.classes == tuple(sorted(["trainA", "trainB", "testA", "testB", more[:-6]]))
    assert len(data) == 7


def test_the_folder_of_the_runs_is_neither_searched_nor_a_class():
    factory.write_files(Path("pets"), {**PETS, "runs/1/x.bmp": bmp(99)})
    options = DataOptions(data="folder", image_size=16)
    data = open_data(options, "pets", 0, Path("pets/runs"), progress=False)
    assert (data.classes, data.notes) == (("cats", "dogs", "fish"), [])


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({**PETS, "0.bmp": bmp(0)}, "has images outside its subfolders, such as 0.bmp, which have no"),
        ({"cats/1.bmp": bmp(1), "cats/x/2.bmp": bmp(2)}, "are in its subfolder cats, so there is "),
        ({"cats/a.txt": b"x"}, "contains no images"),
        ({**PETS, "dogs/1.bmp": b"", "dogs/2.bmp": b"", "fish/1.bmp": b""}, "are of class cats, "),
    ],
    ids=["outside", "one class", "no images", "one class after decoding"],
)  # fmt: skip
def test_a_folder_without_two_classes_is_refused_with_the_remedy(files, words):
    with pytest.raises(UserError, match=words) as caught:
        opened(factory.write_files(Path("pets"), files))
    assert "\n" not in str(caught.value)


def test_the_identity_tells_the_choice_and_a_copy_loads_the_same():
    root = factory.write_files(Path("pets"), PETS)
    every, four = (open_subfolders(root, 16, most, "runs") for most in (None, 4))
    identity = four.identity()
    assert json.loads(json.dumps(identity)) == identity != every.identity()
    copy = pickle.loads(pickle.dumps(four))
    np.testing.assert_array_equal(copy.load(3), four.load(3))
    four.check()
    (root / "fish/1.bmp").write_bytes(bmp(22))
    with pytest.raises(UserError, match="was changed or replaced while it was being read"):
        four.check()


# -- CelebA's attributes ------------------------------------------------------------------------------


def celeba_of(listed: int, count: int = 8) -> Path:
    root = factory.make(Path("data/img_align_celeba"), count)
    Path("data", FILE).write_bytes(factory.attribute_list(listed))
    return root


def conditioned(condition: str, only: str | None = None, **options) -> ImageSet:
    chosen = DataOptions(data="celeba", image_size=16, condition=condition, only=only)
    return open_data(chosen, "data", 0, Path("runs"), progress=False, **options)


def test_the_classes_of_attributes_count_in_twos():
    assert class_names("Male") == ("no-Male", "Male")
    assert class_names("Male,Smiling") == (
        *("no-Male+no-Smiling", "no-Male+Smiling", "Male+no-Smiling", "Male+Smiling"),
    )
    assert len(class_names("Male,Smiling,Young")) == 8


@pytest.mark.parametrize("as_zip", [False, True])
def test_each_image_is_of_the_class_of_its_attributes(as_zip):
    celeba_of(8)
    if as_zip:
        factory.make(Path("data"), 8, as_zip=True)
    root = Path("data/img_align_celeba.zip") if as_zip else Path("data")
    options = DataOptions(data="celeba", image_size=16, condition="Male,Smiling")
    data = open_data(options, str(root), 0, Path("runs"), workers=2, progress=False)
    male = [i % 2 for i in range(1, 9)]
    smiling = [int(i % 3 == 0) for i in range(1, 9)]
    assert data.labels.tolist() == [2 * m + s for m, s in zip(male, smiling, strict=True)]
    assert (data.labels.dtype, data.classes) == (np.int64, class_names("Male,Smiling"))
    assert data.notes == [
        "classes by --condition: no-Male+no-Smiling 37.5 %, no-Male+Smiling 12.5 %, "
        "Male+no-Smiling 37.5 %, Male+Smiling 12.5 %."
    ]


def test_a_condition_needs_no_other_cache_but_another_fingerprint():
    celeba_of(8)
    plain = open_data(
        DataOptions(data="celeba", image_size=16), "data", 0, Path("runs"), progress=False
    )
    male, smiling = conditioned("Male"), conditioned("Smiling")
    assert plain.labels is None
    assert plain.identity["key"] == male.identity["key"] == smiling.identity["key"]
    assert len({data.identity["fingerprint"] for data in (plain, male, smiling)}) == 3


def test_images_that_are_not_listed_are_left_out_and_told():
    celeba_of(5)
    data = conditioned("Male")
    assert data.labels.tolist() == [1, 0, 1, 0, 1]
    assert data.notes[0] == (
        "left out 3 files that are not in the list of attributes that --condition needs."
    )


def test_only_and_condition_go_together_and_a_class_that_is_not_there_is_told():
    celeba_of(8)
    data = conditioned("Male,Smiling", only="no-Smiling")
    assert data.labels.tolist() == [2, 0, 0, 2, 2, 0]  # images 1, 2, 4, 5, 7 and 8
    assert data.notes[-1] == "classes without an image: no-Male+Smiling, Male+Smiling."


@pytest.mark.parametrize(
    ("condition", "only", "words"),
    [
        ("smiling", None, "^--condition smiling: .* no attribute 'smiling', did you mean Smiling"),
        ("no-Male", None, "^--condition no-Male: .* no attribute 'no-Male', did you mean Male"),
        (
            "Male",
            "Male",
            "^all 4 images of --data celeba are of class Male, so there are no classes to",
        ),
        (
            "Male,Male",
            None,
            "^--condition Male,Male: give one to 3 attributes of CelebA, each once",
        ),
        ("Male,", None, "^--condition Male,: give one to 3 attributes of CelebA"),
        ("Male,Young,Smiling,Bald", None, "^--condition Male,Young,Smiling,Bald: give one to 3"),
    ],
)
def test_a_condition_that_makes_no_classes_is_refused(condition, only, words):
    celeba_of(8)
    with pytest.raises(UserError, match=words):
        conditioned(condition, only)


def test_without_a_list_of_attributes_the_option_that_needs_it_is_named():
    factory.make(Path("data/img_align_celeba"), 2)
    with pytest.raises(UserError, match=f"^--condition needs {FILE}, which is not in"):
        conditioned("Male")


def test_the_source_itself_keeps_what_is_listed():
    celeba_of(3)
    source = celeba.open_source("data", 16, condition="Smiling")
    assert [(source.name(i), source.label(i)) for i in range(len(source))] == [
        ("000001.jpg", 0),
        ("000002.jpg", 0),
        ("000003.jpg", 1),
    ]


# -- modes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), [("ring", 8), ("grid", 25)])
def test_the_class_of_a_point_is_the_number_of_its_mode(name, count):
    data = Mixture(name, count=500, seed=3)
    distance = np.linalg.norm(data.points[:, None] - data.centers, axis=2)  # (500, count)
    np.testing.assert_array_equal(data.labels, distance.argmin(1))
    assert data.labels.dtype == np.int64
    assert data.classes == tuple(map(str, range(count)))
    assert data.identity["classes"] == list(data.classes)


# -- options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", KINDS)
def test_what_the_options_say_before_the_data_are_opened_is_true_of_them(data, tmp_path):
    sizes = {"digits": 28, "mnist": 28, "fashion-mnist": 28, "shapes": 32, "cifar10": 32}
    options = DataOptions(data=data)
    assert options.image_size == sizes.get(data, 64)
    assert options.nc == (1 if options.image_size == 28 else 3)
    assert options.has_classes == (data not in ("faces", "celeba"))
    if not KINDS[data].files:
        if not KINDS[data].points:
            options = DataOptions(data=data, max_images=20)
        opened = open_data(options, None, 0, tmp_path, progress=False)
        assert (opened.shape, opened.labels is not None) == (options.shape, options.has_classes)
        picture = options.picture(np.zeros((3, *options.shape), np.float32))
        assert (picture.ndim, picture.dtype) == (3, np.uint8)
    assert DataOptions.read({"data": data}, "file") == DataOptions(data=data)


def test_attributes_are_the_classes_of_celeba_alone():
    assert DataOptions(data="celeba", condition="Male").has_classes
    with pytest.raises(
        UserError, match=r"^--condition Male: --data faces has no list of attributes; gi"
    ):
        DataOptions(condition="Male")
    with pytest.raises(
        UserError, match=r"^--condition Male: --data mnist has classes of its own; leave"
    ):
        DataOptions(data="mnist", condition="Male")


@pytest.mark.parametrize("data", ["mnist", "fashion-mnist", "cifar10", "folder", "celeba"])
def test_without_files_it_is_said_what_to_get_and_where_it_was_looked_for(
    data, capsys, monkeypatch
):
    monkeypatch.setitem(
        KINDS, "fashion-mnist", KINDS["mnist"]
    )  # a machine may have Debian's package
    assert main(["train", "dcgan", "--data", data, "--device", "cpu"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: --data {data} needs --dataroot: {KINDS[data].files}")
    assert all(place in said for place in KINDS[data].places)


@pytest.mark.parametrize(
    ("data", "place"), [(data, place) for data, kind in KINDS.items() for place in kind.places]
)
def test_files_in_a_usual_place_are_found(data, place):
    if place.startswith("/"):
        return  # found on the system
    Path(place).mkdir(parents=True)
    assert choose("dcgan", {"data": data}).dataroot == place


def test_a_run_on_drawn_digits_trains_and_resumes(monkeypatch, capsys):
    monkeypatch.setattr(pictures, "save_curves", lambda folder, metrics: None)
    words = [*tiny.TINY, "--data", "digits", "--max-images", "16", "--image-size", "28"]
    assert tiny.train_celeba.main([*words, "--out", "runs", "--steps", "1"]) == 0
    assert "resume" in capsys.readouterr().out
    assert main(["resume", "auto", "--out", "runs", "--steps", "2"]) == 0
