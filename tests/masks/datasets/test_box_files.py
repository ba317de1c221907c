import json

import pytest

from tinygrad_mask.masks.data_issues import DataIssues
from tinygrad_mask.masks.datasets.box_files import read_boxes
from tinygrad_mask.masks.errors import UsageError

ONE, TWO = (1.0, 2.0, 30.0, 40.5), (5.0, 6.0, 7.0, 8.0)


def xml(*boxes):
    tags = ("xmin", "ymin", "xmax", "ymax")
    objects = ""
    for box in boxes:
        corners = "".join(f"<{t}>{v}</{t}>" for t, v in zip(tags, box, strict=True))
        objects += f"<object><name>anything</name><bndbox>{corners}</bndbox></object>"
    return f"<annotation>{objects}</annotation>"


def read(path, *photographs):
    issues = DataIssues()
    return read_boxes(path, photographs, issues), issues


class TestKinds:
    def test_json_by_name(self, tmp_path):
        path = tmp_path / "boxes.json"
        path.write_text(json.dumps({"a.jpg": [ONE, TWO], "b.jpg": [], "c.jpg": [TWO]}))
        boxes, issues = read(path, "photos/a.jpg", "b.jpg")
        assert boxes == [[ONE, TWO], []]
        assert not issues.items

    def test_json_of_one_photograph(self, tmp_path):
        path = tmp_path / "boxes.JSON"
        path.write_text(json.dumps([ONE, TWO]))
        assert read(path, "a.jpg")[0] == [[ONE, TWO]]

    def test_csv_by_name(self, tmp_path):
        path = tmp_path / "boxes.csv"
        path.write_text(
            "name,x1,y1,x2,y2,classname\n"
            "a.jpg,1,2,30,40.5,face\n"
            "\n"
            '"b, c.jpg",5,6,7,8,face\n'
            "a.jpg,5,6,7,8,face\n"
        )
        assert read(path, "b, c.jpg", "a.jpg")[0] == [[TWO], [ONE, TWO]]

    def test_csv_of_one_photograph(self, tmp_path):
        path = tmp_path / "boxes.csv"
        path.write_text("\ufeffx1,y1,x2,y2\n1,2,30,40.5\n", encoding="utf-8")
        assert read(path, "a.jpg")[0] == [[ONE]]

    def test_xml(self, tmp_path):
        (tmp_path / "whatever.xml").write_text(xml(ONE, TWO))
        assert read(tmp_path / "whatever.xml", "a.jpg")[0] == [[ONE, TWO]]

    def test_a_folder_of_xml(self, tmp_path):
        (tmp_path / "a.xml").write_text(xml(ONE))
        (tmp_path / "b.xml").write_text(xml())
        assert read(tmp_path, "elsewhere/b.png", "a.jpg")[0] == [[], [ONE]]

    def test_the_path_as_given_goes_before_the_name(self, tmp_path):
        path = tmp_path / "boxes.json"
        path.write_text(json.dumps({"x/a.jpg": [ONE], "a.jpg": [TWO]}))
        assert read(path, "x/a.jpg", "y/a.jpg")[0] == [[ONE], [TWO]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("boxes.json", '{"a.jpg": [[1, 2, 3], [5, 6, 7, 8], [9, 9, 9, 9], 7, ["x", 0, 1, 1]]}'),
        (
            "boxes.csv",
            "name,x1,y1,x2,y2\na.jpg,1,2,3\na.jpg,5,6,7,8\na.jpg,9,9,9,9\na.jpg\na.jpg,x,0,1,1",
        ),
    ],
)
def test_boxes_that_are_none_are_told_and_passed_over(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    boxes, issues = read(tmp_path / name, "a.jpg")
    assert boxes == [[TWO]]
    assert issues.counts() == {"box cannot be used": 4}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("boxes.json", '{"b.jpg": []}', "has no boxes for a.jpg; it names b.jpg"),
        ("boxes.json", "{}", "has no boxes for a.jpg; it names nothing"),
        ("boxes.json", "[", "cannot be read as JSON"),
        ("boxes.json", "[" * 100_000, "cannot be read as JSON"),
        ("boxes.json", '{"a.jpg": 3}', r"expected \{NAME: .*got \{\"a.jpg\": 3\}"),
        (
            "boxes.json",
            '{"a.jpg": [0, 0, 50, 50]}',
            r"a.jpg: expected a list .*got \[0, 0, 50, 50\];",
        ),
        ("boxes.json", "[0, 0, 50, 50]", r"expected a list of boxes, \[\[x1, y1, x2, y2\], ...\]"),
        ("boxes.json", '["0", "0", "50", "50"]', "put brackets around each box"),
        ("boxes.json", "7", "or a list of boxes, got 7"),
        ("boxes.csv", "", "expected a header that begins with name,x1,y1,x2,y2, got"),
        # The header of Humans in the Loop, whose names are wrong.
        ("boxes.csv", "name,x1,x2,y1,y2,classname\n", "got name,x1,x2,y1,y2,classname"),
        ("boxes.csv", "\0\xff", "expected a header|cannot be read as CSV"),
        ("boxes.xml", "<a>", "cannot be read as Pascal VOC"),
        ("boxes.txt", "1 2 3 4", r"expected a .json, .csv or .xml file"),
    ],
)
def test_what_cannot_be_used_gets_one_line(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match=message) as raised:
        read(path, "a.jpg")
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize("name", ["boxes.json", "boxes.csv", "boxes.xml", "boxes.txt"])
def test_a_file_that_is_not_there(name, tmp_path):
    with pytest.raises(UsageError, match=name):
        read(tmp_path / name, "a.jpg")


def test_a_folder_without_the_photographs_file(tmp_path):
    with pytest.raises(UsageError, match=r"a\.xml: there is no such file of boxes"):
        read(tmp_path, "a.jpg")


@pytest.mark.parametrize(("name", "content"), [("b.json", "[]"), ("b.xml", xml(ONE))])
def test_boxes_without_names_are_of_one_photograph(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match="has the boxes of one photograph, and there are 2"):
        read(tmp_path / name, "a.jpg", "b.jpg")
