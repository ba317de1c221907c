"""The command `detect`, with a detector that finds coloured squares instead of faces."""

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tinygrad_mask import cli
from tinygrad_mask.masks.detector import detect_command
from tinygrad_mask.masks.detector.inference.photographs import LOWEST_SCORE
from tinygrad_mask.masks.detector.network.architecture import DetectorArchitecture, FaceDetector
from tinygrad_mask.masks.detector.network.decoding import Detections
from tinygrad_mask.masks.detector.network.detector import Detector
from tinygrad_mask.masks.detector.network.input import InputSettings
from tinygrad_mask.masks.labels import LABELS

GREEN, YELLOW, RED, FAINT = (0, 255, 0), (255, 255, 0), (255, 0, 0), (0, 0, 255)
ANSWERS_TO = {
    GREEN: (0.9, [0.9, 0.07, 0.03]),
    YELLOW: (0.8, [0.4, 0.45, 0.15]),
    RED: (0.7, [0.1, 0.1, 0.8]),
    FAINT: (0.1, [0.6, 0.2, 0.2]),
}


class SquareFinder(Detector):
    """Finds one square of each colour, in pictures that JPEG and H.264 may have blurred."""

    def find(self, image, least_score):
        pixels = np.asarray(image).astype(int)
        found = []
        for colour, (score, labels) in ANSWERS_TO.items():
            rows, columns = np.nonzero(np.abs(pixels - colour).max(axis=2) < 80)
            if len(rows) > 8 and score >= least_score:
                box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                found.append((box, score, labels))
        boxes, scores, labels = zip(*found, strict=True) if found else ([], [], [])
        return Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float32),
            np.array(labels, np.float32).reshape(-1, 3),
        )


@pytest.fixture(autouse=True)
def square_finder(monkeypatch, tmp_path):
    architecture = DetectorArchitecture((2,) * 5, (1,) * 4, 2)
    detector = SquareFinder(
        FaceDetector(architecture, np.random.default_rng(0)), architecture, InputSettings()
    )
    monkeypatch.setattr(detect_command, "load_model", lambda *_: detector)
    monkeypatch.chdir(tmp_path)
    return detector


def picture(*squares, size=(160, 120)):
    """A dark picture with squares, each (colour, left, top, side)."""
    image = Image.new("RGB", size, (60, 60, 60))
    for colour, left, top, side in squares:
        corners = (left, top, left + side - 1, top + side - 1)
        ImageDraw.Draw(image).rectangle(corners, fill=colour)
    return image


def saved(name, *squares):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(*squares).save(path)
    return str(path)


def detect(*arguments):
    return cli.main(["detect", *map(str, arguments)])


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]


class TestPhotographs:
    def test_a_line_for_each_face_and_the_sums(self, capsys):
        saved("a.png", (GREEN, 10, 10, 30), (RED, 80, 20, 40))
        saved("b.png", (YELLOW, 50, 50, 20))
        saved("c.png")
        assert detect("a.png", "b.png", "c.png") == 0
        *lines, sums = capsys.readouterr().out.splitlines()
        assert lines == [
            "a.png  (10, 10, 40, 40)  proper 0.900  (proper 0.900, improper 0.070, none 0.030)",
            "a.png  (80, 20, 120, 60)  none 0.800  (proper 0.100, improper 0.100, none 0.800)",
            "b.png  (50, 50, 70, 70)  unsure  (proper 0.400, improper 0.450, none 0.150)",
            "c.png  no face",
        ]
        assert sums.startswith("3 photographs, 3 faces: 1 proper, 0 improper, 1 none, 1 unsure; ")
        assert sums.endswith(" a second")

    def test_the_options_move_the_answers(self, capsys):
        saved("a.png", (GREEN, 10, 10, 30), (YELLOW, 50, 50, 20), (FAINT, 100, 90, 12))
        assert detect("a.png", "--confidence", 0.4, "--least-score", 0.05, "--min-face", 15) == 0
        first, second, third, _ = capsys.readouterr().out.splitlines()
        assert "  proper 0.900  " in first
        assert "  improper 0.450  " in second
        assert third == "a.png  (100, 90, 112, 102)  too small  (12 pixels)"

    def test_json_lines_are_all_that_standard_output_gets(self, capsys):
        saved("a.png", (GREEN, 10, 10, 30))
        saved("b.png")
        assert detect("a.png", "b.png", "--json") == 0
        first, second, sums = json_lines(capsys.readouterr().out)
        assert (first["kind"], first["name"], first["width"], first["height"]) == (
            *("photograph", "a.png"),
            *(160, 120),
        )
        [face] = first["faces"]
        assert face["box"] == [10, 10, 40, 40]
        assert (face["label"], face["answer"]) == ("proper", "proper")
        assert list(face["probabilities"]) == list(LABELS)
        assert second["faces"] == []
        assert sums["kind"] == "summary"
        assert sums["photographs"] == 2
        assert sums["faces"] == dict.fromkeys(["improper", "none", "unsure", "too small"], 0) | {
            "proper": 1
        }

    def test_folders_are_searched_and_drawn_as_they_are_laid_out(self, capsys):
        saved("in/b.png", (GREEN, 10, 10, 30))
        saved("in/deep/er/a.png", (RED, 10, 10, 30))
        saved("in/.hidden/c.png")
        Path("in/notes.txt").write_text("no picture")
        assert detect("in", "in/b.png", "--out", "out/here") == 0
        assert "2 photographs, 2 faces" in capsys.readouterr().out
        drawn = sorted(str(p.relative_to("out/here")) for p in Path("out").rglob("*.*"))
        assert drawn == ["b.png.detected.jpg", "deep/er/a.png.detected.jpg"]
        with Image.open("out/here/b.png.detected.jpg") as image:
            assert image.size == (480, 360)  # three times as large, for the captions
        # What was drawn is not looked at again.
        assert detect("out") == 2
        assert "expected photographs or videos, found none" in capsys.readouterr().err

    def test_nothing_is_overwritten(self, capsys):
        saved("a.png", (GREEN, 10, 10, 30))
        Path("out").mkdir()
        Path("out/a.png.detected.jpg").write_text("mine")
        Path("d.json").write_text("mine")
        assert detect("a.png", "--out", "out") == 2
        assert "exists already and is not overwritten" in capsys.readouterr().err
        assert detect("a.png", "--detections", "d.json") == 2
        assert "d.json exists already" in capsys.readouterr().err
        assert Path("out/a.png.detected.jpg").read_text() == "mine"
        assert Path("d.json").read_text() == "mine"
        assert sorted(os.listdir()) == ["a.png", "d.json", "out"]

    def test_detections_in_cocos_format(self):
        saved("photo.one.png", (GREEN, 10, 20, 30), (FAINT, 100, 90, 12))
        saved("empty.png")
        assert detect("photo.one.png", "empty.png", "--detections", "d.json") == 0
        entries = json.loads(Path("d.json").read_text())
        assert [entry["image_id"] for entry in entries] == ["photo.one"] * 6
        assert [entry["category_id"] for entry in entries] == [1, 2, 3] * 2
        assert entries[0]["bbox"] == [10, 20, 30, 30]
        scores = [entry["score"] for entry in entries]
        assert scores == pytest.approx(
            [0.9 * p for p in ANSWERS_TO[GREEN][1]] + [0.1 * p for p in ANSWERS_TO[FAINT][1]],
            abs=1e-6,
        )
        assert LOWEST_SCORE < 0.1  # the faint one is below what is answered, and is written

    def test_pycocotools_reads_them(self):
        pytest.importorskip("pycocotools", reason="needs the extra `coco`")
        from pycocotools.coco import COCO

        saved("a.png", (GREEN, 10, 20, 30))
        assert detect("a.png", "--detections", "d.json") == 0
        truth = COCO()
        truth.dataset = {
            "images": [{"id": "a", "width": 160, "height": 120}],
            "categories": [{"id": k + 1, "name": name} for k, name in enumerate(LABELS)],
            "annotations": [],
        }
        truth.createIndex()
        assert len(truth.loadRes("d.json").anns) == 3

    def test_what_to_type_next(self, capsys):
        saved("a.png", (GREEN, 10, 10, 30))
        assert detect("a.png") == 0
        assert capsys.readouterr().err == (
            "next: tinygrad-mask detect a.png --out DIR, to see the faces\n"
        )


class TestBadInput:
    def test_some_that_cannot_be_read_are_told_and_the_rest_is_answered(self, capsys):
        saved("a.png", (GREEN, 10, 10, 30))
        Path("odd.png").write_bytes(b"no picture")
        os.mkfifo("pipe.png")
        assert detect("odd.png", "missing.png", "pipe.png", "a.png", "--json") == 1
        captured = capsys.readouterr()
        photograph, sums = json_lines(captured.out)
        assert photograph["name"] == "a.png"
        assert sums["not_read"] == {"cannot be read": ["missing.png", "pipe.png", "odd.png"]}
        assert "3 paths could not be read" in captured.err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "expected a PATH or --camera N, got neither"),
            (["missing.png"], "none of the photographs and videos can be read (1 failure)"),
            (["empty"], "expected photographs or videos, found none"),
            (["a.png", "b/a.jpg", "--detections", "d.json"], "both have the image_id 'a'"),
            (["a.png", "b/a.png", "--out", "out"], "would both be drawn into out/a.png.detected"),
            (["a.png", "--out", "b/a.png"], "no pictures can be drawn there"),
            (["rtsp://x/y", "--detections", "d.json"], "which has no end"),
            (["rtsp://x/y", "http://x/y"], "at most one camera or stream"),
            (["a.png", "--device", "cuda"], "'cuda' is not available"),
        ],
    )
    def test_what_cannot_be_used_gets_one_line(self, arguments, message, capsys):
        saved("a.png", (GREEN, 10, 10, 30))
        saved("b/a.png")
        saved("b/a.jpg")
        Path("empty").mkdir()
        before = sorted(map(str, Path().rglob("*")))
        assert detect(*arguments) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ")
        assert message in error
        assert sorted(map(str, Path().rglob("*"))) == before

    @pytest.mark.parametrize("option", ["--confidence", "--least-score", "--min-face"])
    @pytest.mark.parametrize("value", ["-1", "nan", "some", "inf"])
    def test_numbers_out_of_range(self, option, value, capsys):
        with pytest.raises(SystemExit) as exit_:
            detect("a.png", f"{option}={value}")
        assert exit_.value.code == 2
        assert "expected a number" in capsys.readouterr().err

    def test_a_folder_for_the_detections_must_exist(self, capsys):
        saved("a.png", (GREEN, 10, 10, 30))
        assert detect("a.png", "--detections", "missing/d.json") == 2
        assert "the folder missing does not exist; create it first" in capsys.readouterr().err

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
    def test_an_unreadable_folder(self, capsys):
        saved("in/a.png", (GREEN, 10, 10, 30))
        Path("in/locked").mkdir()
        Path("in/locked").chmod(0)
        try:
            assert detect("in") == 1
        finally:
            Path("in/locked").chmod(stat.S_IRWXU)
        captured = capsys.readouterr()
        assert "1 photograph, 1 face" in captured.out
        assert "in/locked (Permission denied)" in captured.err

    def test_a_folder_that_cannot_be_listed_is_told(self, monkeypatch, capsys):
        """As above, for root, who can list every folder."""
        saved("in/a.png", (GREEN, 10, 10, 30))
        Path("in/locked").mkdir()
        real = os.scandir

        def scandir(path):
            if str(path).endswith("locked"):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(os, "scandir", scandir)
        assert detect("in") == 1
        assert "in/locked (Permission denied)" in capsys.readouterr().err

    def test_names_that_are_no_text(self, capfd):
        name = os.fsdecode(b"caf\xe9 \n1.png")
        saved(name, (GREEN, 10, 10, 30))
        assert detect(".", "--out", "out", "--detections", "d.json") == 0
        lines = capfd.readouterr().out.splitlines()
        assert len(lines) == 2
        assert lines[0].startswith(r"caf\udce9 \n1.png  (10, 10, 40, 40)  proper")
        assert Path("out", name + ".detected.jpg").exists()
        assert json.loads(Path("d.json").read_text())[0]["image_id"] == "caf\\udce9 \n1"
        assert detect(".", "--json") == 0
        photograph, _ = json_lines(capfd.readouterr().out)
        assert photograph["name"] == "caf\\udce9 \n1.png"


class TestVideos:
    @pytest.fixture(autouse=True)
    def with_av(self):
        pytest.importorskip("av", reason="videos need PyAV, the extra `video`")

    def video(self, name, count=20, size=(160, 120), squares=lambda k: ()):
        from tinygrad_mask.masks.video import VideoWriter

        with VideoWriter(Path(name), 10) as writer:
            for k in range(count):
                writer.write(picture(*squares(k), size=size))

    def walk(self, k):
        """Somebody walks to the right for 15 frames, and is called something else once."""
        if k >= 15:
            return [(RED, 120, 70, 30)]
        walker = RED if k == 7 else GREEN
        return [(walker, 10 + 4 * k, 10, 32)]

    def test_persons_keep_their_number_and_are_counted_once(self, capsys):
        self.video("a.mp4", 35, squares=self.walk)
        assert detect("a.mp4") == 0
        first, second, sums = capsys.readouterr().out.splitlines()
        # One frame of 15 said 0.1 rather than 0.9, seven frames before the last.
        assert f"{0.9 - 0.2 * 0.8 * 0.8**7:.3f}" == "0.866"
        assert first == "a.mp4  person 1  proper 0.866  (0.0 to 1.4 s, 15 frames)"
        assert second == "a.mp4  person 2  none 0.800  (1.5 to 3.4 s, 20 frames)"
        assert sums.startswith("a.mp4: 35 frames, ")
        assert sums.endswith("; 2 persons: 1 proper, 0 improper, 1 none")

    def test_the_label_does_not_flicker(self, capsys):
        self.video("a.mp4", 15, squares=self.walk)
        assert detect("a.mp4", "--json") == 0
        *frames, person, video, sums = json_lines(capsys.readouterr().out)
        assert [frame["number"] for frame in frames] == list(range(15))
        assert [frame["seconds"] for frame in frames] == pytest.approx(
            [k / 10 for k in range(15)], abs=1e-3
        )
        faces = [frame["faces"] for frame in frames]
        assert [[face["person"] for face in of] for of in faces] == [[1]] * 15
        assert [[face["answer"] for face in of] for of in faces] == [["proper"]] * 15
        assert (person["kind"], person["answer"], person["frames"]) == ("person", "proper", 15)
        assert (video["kind"], video["frames"], video["broken"]) == ("video", 15, 0)
        assert video["persons"]["proper"] == 1
        assert sums["videos"] == 1

    def test_the_drawn_video_is_as_long_and_as_fast(self, capsys):
        from tinygrad_mask.masks.video import VideoSource

        Path("in").mkdir()
        self.video("in/a.mp4", 12, squares=self.walk)
        assert detect("in", "--out", "out") == 0
        with VideoSource(Path("out/a.mp4.detected.mp4")) as video:
            frames = list(video)
            assert video.frames_per_second == pytest.approx(10)
        assert len(frames) == 12
        before = np.asarray(picture(*self.walk(3))).astype(int)
        drawn = np.asarray(frames[3].image).astype(int)
        changed = np.abs(drawn - before).max(axis=2) > 60
        assert changed[8:45, 18:58].any()  # about the face
        assert not changed[70:].any()

    def test_detections_of_frames(self):
        self.video("a.mp4", 3, squares=lambda k: [(GREEN, 10, 10, 32)])
        assert detect("a.mp4", "--detections", "d.json") == 0
        entries = json.loads(Path("d.json").read_text())
        assert [entry["image_id"] for entry in entries[::3]] == ["a/0", "a/1", "a/2"]

    def test_someone_small_or_unclear_is_counted_as_such(self, capsys):
        self.video("a.mp4", 5, squares=lambda k: [(GREEN, 10, 10, 16), (YELLOW, 90, 40, 40)])
        assert detect("a.mp4", "--min-face", 20) == 0
        assert (
            capsys.readouterr()
            .out.splitlines()[-1]
            .endswith("2 persons: 0 proper, 0 improper, 0 none, 1 unsure, 1 too small")
        )

    def test_videos_that_are_none_beside_one_that_is(self, capsys):
        import av

        self.video("good.mp4", 4, squares=lambda k: [(GREEN, 10, 10, 32)])
        Path("empty.mp4").write_bytes(b"")
        Path("text.mkv").write_text("no video" * 99)
        with av.open("sound.mkv", "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        with av.open("frameless.avi", "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            container.start_encoding()
        good = Path("good.mp4").read_bytes()
        Path("cut.mp4").write_bytes(good[: len(good) // 2])  # its index is at the end
        names = ["empty.mp4", "text.mkv", "sound.mkv", "frameless.avi", "cut.mp4"]
        assert detect(*names, "good.mp4", "--out", "out") == 1
        captured = capsys.readouterr()
        assert captured.out.splitlines()[-1].startswith("good.mp4: 4 frames")
        lines = captured.err.splitlines()
        warnings = [line for line in lines if "cannot be read: " in line][: len(names)]
        assert [line.partition("read: ")[2].split()[0] for line in warnings] == names
        assert "no video stream" in warnings[2]
        assert os.listdir("out") == ["good.mp4.detected.mp4"]
        for name in names:
            assert detect(name) == 2
            error = capsys.readouterr().err.splitlines()[-1]
            assert error == "error: none of the photographs and videos can be read (1 failure)"

    def test_frames_that_change_size(self, capsys):
        """As a stream does whose camera is set anew: each part is a whole transport stream."""
        import av

        content = b""
        for size in ((160, 120), (320, 240)):
            with av.open("part.ts", "w") as container:
                stream = container.add_stream("mpeg2video", rate=25)
                stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
                image = picture((GREEN, 10, 10, 32), size=size)
                for _ in range(10):
                    container.mux(stream.encode(av.VideoFrame.from_image(image)))
                container.mux(stream.encode(None))
            content += Path("part.ts").read_bytes()
        Path("part.ts").unlink()
        Path("a.ts").write_bytes(content)
        assert detect("a.ts", "--out", "out", "--json") == 0
        lines = json_lines(capsys.readouterr().out)
        frames = [line for line in lines if line["kind"] == "frame"]
        assert 18 <= len(frames) <= 20  # the decoder may lose the frame at the seam
        assert all(frame["faces"] for frame in frames)

    def test_a_codec_that_is_not_there(self, capsys):
        """The name of the codec in the file is one that nobody knows."""
        self.video("a.mp4", 4)
        content = Path("a.mp4").read_bytes()
        assert content.count(b"avc1") + content.count(b"mp4v") >= 1
        Path("b.mp4").write_bytes(content.replace(b"avc1", b"zzzz").replace(b"mp4v", b"zzzz"))
        assert detect("b.mp4") == 2
        captured = capsys.readouterr()
        assert "b.mp4 (expected a codec that the installed PyAV knows" in captured.err
        assert captured.out == ""

    def test_without_pyav_photographs_are_answered(self, monkeypatch, capsys):
        saved("a.png", (GREEN, 10, 10, 30))
        self.video("a.mp4", 4)
        monkeypatch.setitem(__import__("sys").modules, "av", None)
        assert detect("a.png", "a.mp4") == 1
        captured = capsys.readouterr()
        assert "1 photograph, 1 face" in captured.out
        assert "pip install 'tinygrad_mask[video]'" in captured.err


class TestLive:
    """Cameras and streams, replaced by a file that is read as if it were live."""

    @pytest.fixture
    def camera(self, monkeypatch):
        pytest.importorskip("av", reason="videos need PyAV, the extra `video`")
        from tinygrad_mask.masks.detector.inference import session
        from tinygrad_mask.masks.video import VideoSource, VideoWriter

        with VideoWriter(Path("camera.mp4"), 10) as writer:
            for _ in range(30):
                writer.write(picture((GREEN, 10, 10, 32)))

        class Camera(VideoSource):
            def __init__(self, source):
                super().__init__("camera.mp4")
                self.name, self.live = f"camera {source}", True

        monkeypatch.setattr(session, "VideoSource", Camera)
        return Camera

    def test_a_slow_machine_drops_frames(self, camera, square_finder, monkeypatch, capsys):
        import time

        def slow(image, least_score, find=square_finder.find):
            time.sleep(0.1)
            return find(image, least_score)

        monkeypatch.setattr(square_finder, "find", slow)
        assert detect("--camera", 0, "--json") == 0
        lines = json_lines(capsys.readouterr().out)
        frames = [line["number"] for line in lines if line["kind"] == "frame"]
        [video] = [line for line in lines if line["kind"] == "video"]
        assert len(frames) + video["dropped"] == 30
        assert video["dropped"] > 0
        assert frames == sorted(frames)

    def test_an_unplugged_camera_is_said_after_what_was_seen(self, camera, monkeypatch, capsys):
        decode = camera._decode

        def unplugged(self):
            yield from decode(self)
            self.failure = "No such device"

        monkeypatch.setattr(camera, "_decode", unplugged)
        assert detect("--camera", 0, "--out", "out") == 1
        captured = capsys.readouterr()
        assert "camera 0: " in captured.out.splitlines()[-1]
        assert "ended too early: camera 0 (No such device)" in captured.err
        assert os.listdir("out") == ["camera-0.detected.mp4"]

    def test_ctrl_c_ends_a_camera_and_keeps_what_was_drawn(
        self, camera, square_finder, monkeypatch, capsys
    ):
        asked = []

        def interrupted(image, least_score, find=square_finder.find):
            asked.append(1)
            if len(asked) == 2:
                raise KeyboardInterrupt
            return find(image, least_score)

        monkeypatch.setattr(square_finder, "find", interrupted)
        assert detect("--camera", 0, "--out", "out") == 0
        assert "camera 0: 1 frame" in capsys.readouterr().out
        assert os.listdir("out") == ["camera-0.detected.mp4"]

    def test_ctrl_c_stops_a_file(self, square_finder, monkeypatch, capsys):
        saved("a.png")
        monkeypatch.setattr(
            square_finder, "find", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        assert detect("a.png") == cli.INTERRUPTED
        assert capsys.readouterr().err.splitlines()[-1] == "stopped"


def test_a_camera_that_is_not_there(capsys):
    pytest.importorskip("av", reason="videos need PyAV, the extra `video`")
    assert detect("--camera", 91) == 2
    assert "camera 91 (cannot be opened" in capsys.readouterr().err
