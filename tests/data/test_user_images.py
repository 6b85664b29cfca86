import os
from pathlib import Path

import pandas as pd
import pytest

from stages.data.user_images import load_folder, load_table, printable
from stages.errors import UserError
from tests.data.bad_images import picture

IMAGE = picture(0)


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    IMAGE.save(path)


@pytest.fixture
def root(tmp_path):
    """A folder of two classes."""
    for name in ("cats/1.png", "cats/2.png", "dogs/1.png", "dogs/deeper/still/2.png"):
        save(tmp_path / "photographs" / name)
    return tmp_path / "photographs"


@pytest.fixture
def folder(root, data):
    """Return what the source makes of the folder."""
    return lambda **config: load_folder(data.model_copy(update={"source": "folder", "path": str(root), **config}))


def found(source):
    return [(finding.check, finding.image) for finding in source.findings]


def test_a_class_is_a_folder_and_whatever_lies_below_it(folder):
    source = folder()
    assert source.classes == ["cats", "dogs"]
    assert source.channels == 3
    assert dict(zip(source.samples["image"], source.samples["label"], strict=True)) == {
        "cats/1.png": 0,
        "cats/2.png": 0,
        "dogs/1.png": 1,
        "dogs/deeper/still/2.png": 1,
    }
    assert set(source.samples["split"]) == {""}
    assert source.findings == []


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "Validation", "Test"), ("train", "test")])
def test_folders_named_as_splits_give_the_splits(tmp_path, data, names):
    for split in names:
        for label in ("cats", "dogs"):
            save(tmp_path / split / label / f"{label}.png")
    source = load_folder(data.model_copy(update={"path": str(tmp_path)}))
    assert source.classes == ["cats", "dogs"]
    splits = {name.split("/")[0]: split for name, split in source.samples[["image", "split"]].itertuples(index=False)}
    known = {"training": "train", "validation": "val"}
    assert splits == {name: known.get(name.lower(), name.lower()) for name in names}


def test_splits_beside_classes_are_refused(root, folder):
    save(root / "train/cats/3.png")
    with pytest.raises(UserError, match=r"holds train/ beside cats/: are they splits, or classes\?"):
        folder()


def test_splits_without_train_are_refused(tmp_path, data):
    save(tmp_path / "test/cats/1.png")
    with pytest.raises(UserError, match="holds test and no train/"):
        load_folder(data.model_copy(update={"path": str(tmp_path)}))


def test_images_outside_of_any_class_are_found_and_not_used(root, folder):
    save(root / "stray.png")
    assert found(folder()) == [("no_label", "stray.png")]
    assert len(folder().samples) == 4


def test_hidden_files_and_folders_are_left_out_but_for_those_of_git_and_dvc(root, folder):
    for name in (".thumbnails/1.png", "cats/.1.png.swp", ".gitignore", "cats.dvc"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    assert sorted(found(folder())) == [
        ("hidden", ".thumbnails/"),
        ("hidden", "cats/.1.png.swp"),
    ]
    assert len(folder().samples) == 4


@pytest.mark.parametrize(
    "name",
    ["Thumbs.db", "desktop.ini", "ehthumbs.db", "DESKTOP.INI", ".DS_Store", "Icon\r", "._1.png", "@eaDir/1.png"],
)
def test_what_systems_leave_in_folders_is_a_check_of_its_own_and_no_error(root, folder, name):
    for place in (root, root / "cats", root / "dogs/deeper"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).touch()
    source = folder()
    left = printable(name.removesuffix("1.png") if "/" in name else name)
    assert set(found(source)) == {("litter", f"{place}{left}") for place in ("", "cats/", "dogs/deeper/")}
    assert (source.classes, len(source.samples)) == (["cats", "dogs"], 4)


@pytest.mark.parametrize("place", ["", "train/"])
def test_a_folder_that_an_archive_of_macos_brings_is_no_class(tmp_path, data, place):
    for name in ("cats/1.png", "dogs/1.png", "__MACOSX/cats/._1.png"):
        save(tmp_path / place / name)
    source = load_folder(data.model_copy(update={"path": str(tmp_path)}))
    assert (source.classes, found(source)) == (["cats", "dogs"], [("litter", f"{place}__MACOSX/")])


def test_other_files_that_are_no_images_stay_findings(root, folder):
    (root / "cats/notes.txt").write_text("remember the milk")
    assert "cats/notes.txt" in set(folder().samples["image"])  # which decoding refuses


def test_links_are_followed_inside_the_root_and_refused_where_they_leave_it(root, folder, tmp_path):
    save(tmp_path / "secret.png")
    (root / "cats/inside.png").symlink_to("../dogs/1.png")
    (root / "cats/outside.png").symlink_to(tmp_path / "secret.png")
    (root / "cats/also-outside").symlink_to(tmp_path)
    (root / "cats/folder").symlink_to("../dogs")
    (root / "cats/round").symlink_to("..")
    source = folder()
    assert sorted(found(source)) == [
        ("linked_folder", "cats/folder/"),
        ("outside", "cats/also-outside/"),
        ("outside", "cats/outside.png"),
        ("outside", "cats/round/"),  # it leads to the root itself, and so round in a circle
    ]
    assert "cats/inside.png" in set(source.samples["image"])
    assert len(source.samples) == 5


def test_a_root_that_is_a_link_itself_is_as_good(root, data, tmp_path):
    (tmp_path / "link").symlink_to(root)
    source = load_folder(data.model_copy(update={"path": str(tmp_path / "link")}))
    assert (len(source.samples), source.findings) == (4, [])


def test_groups_are_named_by_the_brackets_of_a_pattern(root, folder):
    for name in ("patient7_a.png", "patient7_b.png", "unknown.png"):
        save(root / "cats" / name)
    samples = folder(group_pattern=r"(patient\d+)_").samples.set_index("image")
    assert samples["group"].to_dict() == {
        **dict.fromkeys(samples.index, ""),
        "cats/patient7_a.png": "patient7",
        "cats/patient7_b.png": "patient7",
    }


def test_a_pattern_that_finds_no_group_is_refused_and_one_that_finds_some_names_the_rest(root, folder):
    with pytest.raises(UserError, match=r"data.group_pattern: \(zzz\) finds no group in any path below"):
        folder(group_pattern="(zzz)")
    save(root / "cats" / "patient7_a.png")
    assert ("no_group", "dogs/1.png") in found(folder(group_pattern=r"(patient\d+)_"))


def test_folders_without_images_are_found_out_later_and_not_blamed_on_the_pattern(tmp_path, data):
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
    data = data.model_copy(update={"source": "folder", "path": str(tmp_path), "group_pattern": "(a)"})
    source = load_folder(data)
    assert (source.classes, len(source.samples)) == (["cats", "dogs"], 0)


def test_a_class_whose_name_is_not_utf8_is_refused_by_name(root, folder):
    """DVC cannot take it, and says less."""
    odd = Path(os.fsdecode(bytes(root) + b"/b\xff"))
    odd.mkdir()
    (odd / "1.png").write_bytes((root / "cats/1.png").read_bytes())
    assert found(folder()) == [("not_utf8", r"b\udcff/1.png")]


def test_names_are_told_in_ways_that_every_terminal_and_table_can_bear(root, folder):
    save(root / "cats" / "två.png")
    save(root / "cats" / "new\nline\x1b[31m.png")
    Path(os.fsdecode(bytes(root / "cats") + b"/not-\xff-utf8.png")).write_bytes((root / "cats/1.png").read_bytes())
    source = folder()
    told = {name for _, name in found(source)}
    assert told == {"cats/två.png", r"cats/new\nline\x1b[31m.png", r"cats/not-\udcff-utf8.png"}
    for row, name in enumerate(source.samples["image"]):
        assert name.encode()
        with source.images.open(row, 100) as image:
            assert image.size == IMAGE.size
    assert printable("plain name.png") == "plain name.png"


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([], "no folders in ROOT/: put the images of each class into a folder of its own"),
        (["1.png", "2.png"], "no folders in ROOT/: put the images of each class into a folder of its own"),
        (["train/1.png", "test/2.png"], "no folders in ROOT/test/ and ROOT/train/: put the images of each class"),
        (["cats/1.png"], "ROOT holds one class, cats, and needs two: add another"),
        (["train/cats/1.png", "test/cats/1.png"], "ROOT holds one class, cats, and needs two: add another"),
        (["in/cats/1.png", "in/dogs/1.png"], "ROOT holds one class, in, and needs two: set data.path to ROOT/in if"),
    ],
)
def test_fewer_than_two_classes_are_refused(tmp_path, data, names, says):
    for name in names:
        save(tmp_path / name)
    with pytest.raises(UserError) as caught:
        load_folder(data.model_copy(update={"path": str(tmp_path)}))
    assert str(caught.value).startswith(f"data.path: {says.replace('ROOT', str(tmp_path))}")


def test_a_root_that_is_not_there_is_refused(data):
    with pytest.raises(UserError, match=r"data.path: no/such/folder is no folder"):
        load_folder(data.model_copy(update={"path": "no/such/folder"}))


ROWS = [
    {"path": "cats/1.png", "label": "cat", "split": "train", "group": "a"},
    {"path": "cats/2.png", "label": "cat", "split": "Validation", "group": "a"},
    {"path": "dogs/1.png", "label": "dog", "split": "test", "group": ""},
]


@pytest.fixture
def table(root, data):
    """Write a table into the folder and give what the source makes of it."""

    def load(rows, name="labels.csv"):
        frame = pd.DataFrame(rows)
        if name.lower().endswith(".csv"):
            frame.to_csv(root / name, index=False)
        else:
            frame.to_parquet(root / name)
        return load_table(data.model_copy(update={"source": "table", "path": str(root), "table": name}))

    return load


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet", "LABELS.CSV"])
def test_a_table_says_label_split_and_group(table, name):
    source = table(ROWS, name)
    assert source.classes == ["cat", "dog"]
    assert source.samples[["image", "label", "split", "group"]].to_numpy().tolist() == [
        ["cats/1.png", 0, "train", "a"],
        ["cats/2.png", 0, "val", "a"],
        ["dogs/1.png", 1, "test", ""],
    ]
    with source.images.open(2, 100) as image:
        assert image.size == IMAGE.size


def test_paths_are_relative_to_the_table(root, data):
    (root / "lists").mkdir()
    pd.DataFrame([{"path": "../cats/1.png", "label": "cat"}, {"path": f"{root}/dogs/1.png", "label": "dog"}]).to_csv(
        root / "lists/labels.csv", index=False
    )
    data = data.model_copy(update={"source": "table", "path": str(root), "table": "lists/labels.csv"})
    source = load_table(data)
    assert source.findings == []
    assert source.samples["image"].tolist() == ["cats/1.png", "dogs/1.png"]
    for row in range(2):
        with source.images.open(row, 100) as image:
            assert image.size == IMAGE.size


@pytest.mark.parametrize("place", ["../labels.csv", "absolute", "link.csv"])
def test_a_table_outside_the_root_is_refused_for_dvc_does_not_watch_it(root, data, tmp_path, place):
    pd.DataFrame(ROWS).to_csv(tmp_path / "labels.csv", index=False)
    (root / "link.csv").symlink_to(tmp_path / "labels.csv")
    name = str(tmp_path / "labels.csv") if place == "absolute" else place
    with pytest.raises(UserError, match=r"data.table: .*labels.csv|link.csv leaves .*; put it there"):
        load_table(data.model_copy(update={"source": "table", "path": str(root), "table": name}))


def test_a_further_column_of_a_like_name_is_nobodys_concern(table):
    rows = [{**row, "Label": "x"} for row in ROWS]
    assert table(rows).classes == ["cat", "dog"]


@pytest.mark.parametrize(("wrong", "right"), [("Split", "split"), (" group", "group"), ("PATH", "path")])
def test_a_column_that_is_almost_called_right_is_not_passed_over(table, wrong, right):
    with pytest.raises(UserError, match=f"has a column '{wrong}'; call it {right}"):
        table(pd.DataFrame(ROWS).rename(columns={right: wrong}))


def test_path_and_label_are_enough(table):
    source = table([{"path": row["path"], "label": row["label"]} for row in ROWS])
    assert set(source.samples["split"]) == set(source.samples["group"]) == {""}


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
def test_labels_that_are_numbers_are_sorted_as_numbers(table, name):
    source = table([{"path": f"cats/{label}.png", "label": label} for label in (10, 9, 2)], name)
    assert source.classes == ["2", "9", "10"]


@pytest.mark.parametrize(
    "classes",
    [
        ["0.5", "1.0", "2", "10"],
        ["-0.5", "0", "0.25", "1.5"],
        ["1", "01", "1.0"][::-1],
        ["2", "10", "1.2.3", "B", "a", "a.5"],
    ],
    ids=str,
)
def test_decimals_are_sorted_as_numbers_among_whole_numbers_and_before_words(root, folder, classes):
    for name in ("cats", "dogs"):
        (root / name).rename(root.parent / name)
    for name in reversed(classes):
        save(root / name / "1.png")
    assert folder().classes == (["01", "1", "1.0"] if "01" in classes else classes)


@pytest.mark.parametrize(("name", "classes"), [("labels.csv", ["1.0", "2.0"]), ("labels.parquet", ["1", "2"])])
def test_a_missing_label_is_found_and_the_others_stay_as_they_are(table, name, classes):
    """In a CSV, the text that stands there; in a Parquet, whole numbers that a hole has made fractions."""
    rows = [
        {"path": path, "label": label} for path, label in (("cats/1.png", 1), ("cats/2.png", None), ("dogs/1.png", 2))
    ]
    source = table(rows, name)
    assert found(source) == [("no_label", "cats/2.png")]
    assert source.classes == classes


def test_text_that_a_parquet_holds_as_bytes_is_text(table):
    rows = [{**row, "label": row["label"].encode()} for row in ROWS]
    assert table(rows, "labels.parquet").classes == ["cat", "dog"]


@pytest.mark.parametrize("kind", ["category", "string", "object"])
def test_columns_of_a_parquet_may_be_of_any_kind_that_holds_text(table, kind):
    source = table(pd.DataFrame(ROWS).astype(kind), "labels.parquet")
    assert source.classes == ["cat", "dog"]
    assert source.samples["split"].tolist() == ["train", "val", "test"]


@pytest.mark.parametrize("kind", ["Float32", "Int8", "float64", "uint16"])
def test_numbers_of_any_kind_are_the_same_labels(table, kind):
    rows = pd.DataFrame({"path": ["cats/1.png", "dogs/1.png"], "label": pd.array([10, 9], dtype=kind)})
    assert table(rows, "labels.parquet").classes == ["9", "10"]


def test_absolute_paths_are_named_as_they_lie_below_the_root_through_a_link_too(root, tmp_path, data):
    """What leads to the root may hold a user's name."""
    (tmp_path / "jane-doe").symlink_to(root)
    rows = [{"path": root / name, "label": name[:3]} for name in ("cats/1.png", "dogs/1.png")]
    pd.DataFrame(rows).to_csv(root / "labels.csv", index=False)
    for path in (root, tmp_path / "jane-doe"):
        source = load_table(data.model_copy(update={"source": "table", "path": str(path), "table": "labels.csv"}))
        assert source.samples["image"].tolist() == ["cats/1.png", "dogs/1.png"]


@pytest.mark.parametrize(
    "path", ["../secret.png", "/etc/passwd", "cats/../../secret.png", "link.png", "linked/1.png", ""]
)
def test_a_path_that_leaves_the_root_is_refused(table, root, tmp_path, path):
    save(tmp_path / "elsewhere/1.png")
    (root / "link.png").symlink_to(tmp_path / "elsewhere/1.png")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    source = table([*ROWS, {"path": path, "label": "cat", "split": "train", "group": ""}])
    assert found(source) == [("outside", path)]
    assert len(source.samples) == 3


def test_an_absolute_path_inside_the_root_is_taken_and_told_without_it(table, root):
    source = table(
        [*ROWS, {"path": str(root / "dogs/deeper/still/2.png"), "label": "dog", "split": "test", "group": ""}]
    )
    assert source.samples["image"].iloc[3] == "dogs/deeper/still/2.png"
    with source.images.open(3, 100) as image:
        assert image.size == IMAGE.size


def test_a_column_of_lists_is_refused(table):
    with pytest.raises(UserError, match="data.table: the column label holds lists"):
        table([{"path": "cats/1.png", "label": ["cat", "dog"]}], "labels.parquet")


def test_a_path_too_long_for_any_file_is_refused(table):
    assert found(table([*ROWS, {**ROWS[0], "path": "x" * 300}])) == [("outside", "x" * 300)]


def test_a_split_that_is_none_is_refused(table):
    source = table([*ROWS, {"path": "dogs/1.png", "label": "dog", "split": "holdout", "group": ""}])
    assert [finding[:3] for finding in source.findings] == [("unknown_split", "dogs/1.png", "'holdout'")]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("labels.csv", b"file,label\n1.png,cat\n", "lacks the column path; it has file, label"),
        ("labels.csv", b"path;label\n1.png;cat\n", "lacks the column label and path; it has path;label"),
        ("labels.csv", b"", "cannot be read as a table: No columns to parse"),
        (
            "labels.csv",
            b"path,label\ncats/1.png,cat,train\n",
            "a row has more cells than the header; save it anew, in UTF-8 and with commas between the columns",
        ),
        (
            "labels.csv",
            b"path;label\ncats/1.png;0,5\ndogs/1.png;1,5\n",
            "a row has more cells than the header; save it anew, in UTF-8 and with commas between the columns",
        ),
        (
            "labels.csv",
            b"path,label\ncats\\1.png,cat\ndogs\\1.png,dog\n",
            r"data.table: cats\1.png and 1 more: write / between folders and file, as in cats/1.png",
        ),
        ("labels.csv", b'path,label\n"1.png,cat\n', "cannot be read as a table"),
        ("labels.csv", b"path,label\n\xff\xfe.png,cat\n", "save it anew, in UTF-8 and with commas between the columns"),
        ("labels.csv", b"path,label\n", "labels.csv has no rows: list images of two classes at least"),
        ("labels.csv", b"path,label,split\n\n\n", "labels.csv has no rows: list"),
        ("labels.csv", b"path,label\ncats/1.png,\n", "labels.csv has no label in any row: list"),
        ("labels.csv", b"path,label\ncats/1.png,cat\ncats/2.png,\n", "labels.csv has one label, cat: list"),
        ("labels.parquet", b"PAR1 and no more", "cannot be read as a table"),
        ("labels.xlsx", b"", "should end in .csv or .parquet"),
        ("labels.csv", None, "labels.csv is missing"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_in_one_line(root, data, name, content, says):
    if content is not None:
        (root / name).write_bytes(content)
    with pytest.raises(UserError, match=r"^data\.table: ") as caught:
        load_table(data.model_copy(update={"path": str(root), "table": name}))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_backslash_in_a_name_that_no_slash_would_mend_is_no_separator(root, table):
    save(root / "cats" / "odd\\name.png")
    source = table([*ROWS, {**ROWS[0], "path": r"cats/odd\name.png"}, {**ROWS[0], "path": r"nowhere\1.png"}])
    assert len(source.samples) == 5


TWICE = {"path": "./cats/1.png", "label": "cat", "split": "train", "group": "a"}


def test_an_image_that_a_table_lists_twice_counts_once_and_is_named_so(table, root):
    source = table([*ROWS, TWICE, {**TWICE, "path": f"{root}/cats/1.png"}])
    assert source.samples["image"].tolist() == [row["path"] for row in ROWS]
    assert found(source) == [("listed_twice", "cats/1.png")]
    with source.images.open(2, 100) as image:
        assert image.size == IMAGE.size


@pytest.mark.parametrize("other", [{"label": "dog"}, {"group": "b"}], ids=str)
def test_an_image_that_a_table_lists_twice_and_otherwise_is_an_error(table, other):
    with pytest.raises(UserError) as caught:
        table([*ROWS, {**TWICE, **other}, {**ROWS[2], **other}])
    (column, value), *_ = other.items()
    assert f"labels.csv lists cats/1.png twice, with the {column} {ROWS[0][column]} and {value}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_that_a_table_lists_in_two_splits_is_left_to_the_check_of_leaks(table):
    assert len(table([*ROWS, {**TWICE, "split": "test"}]).samples) == 4
