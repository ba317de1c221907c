"""Frames of videos: all of a file, the newest of a live source, and what is broken."""

import functools
import http.server
import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from tinygrad_mask.masks.errors import UsageError
from tinygrad_mask.masks.video import (
    Frame,
    VideoSource,
    VideoWriter,
    _NewestFrame,
    is_stream,
    is_video_file,
    without_password,
)

av = pytest.importorskip("av", reason="videos need PyAV, the extra `video`")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def write_video(path, count=12, size=(64, 48)):
    with VideoWriter(path, 10) as writer:
        for k in range(count):
            writer.write(Image.new("RGB", size, (20 * k, 10, 250 - 20 * k)))
    return path


def test_a_written_video_is_read_back(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    assert is_video_file(path)
    with VideoSource(path) as video:
        frames = list(video)
        assert video.frames_per_second == 10
        assert video.frame_count == 12
        assert video.broken == video.dropped == 0
    assert [frame.number for frame in frames] == list(range(12))
    assert [frame.seconds for frame in frames] == pytest.approx([k / 10 for k in range(12)])
    reds = [np.asarray(frame.image)[..., 0].mean() for frame in frames]
    assert reds == pytest.approx([20 * k for k in range(12)], abs=6)


def test_frames_that_change_size_are_written_in_the_first_ones(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 10) as writer:
        for size in ((65, 49), (32, 20), (128, 128)):
            writer.write(Image.new("RGB", size, "red"))
    with VideoSource(tmp_path / "a.mp4") as video:
        assert {frame.image.size for frame in video} == {(64, 48)}


def test_a_file_cut_in_the_middle_gives_the_frames_before(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(50):
            pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with VideoSource(path) as video:
        assert 5 < len(list(video)) < 50


@pytest.mark.parametrize("content", [b"", b"this is no video at all" * 50])
def test_what_is_no_video_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.mp4: cannot be opened as a video"):
        VideoSource(path)


def test_a_file_without_a_video_stream_is_refused(tmp_path):
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UsageError, match="no video stream"):
        VideoSource(path)


def test_missing_files_and_cameras_are_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no such file"):
        VideoSource(tmp_path / "nothing.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")  # opened, it would wait for a writer for ever
    with pytest.raises(UsageError, match="there is no regular file"):
        VideoSource(tmp_path / "pipe.mp4")
    with pytest.raises(UsageError, match="camera 91: cannot be opened"):
        VideoSource(91)


def test_a_live_source_gives_the_newest_frame_and_counts_what_was_dropped():
    image = Image.new("RGB", (2, 2))
    go_on = threading.Event()
    dropped = []

    def frames():
        yield Frame(0, 0.0, image)
        go_on.wait(5)
        for number in range(1, 6):
            yield Frame(number, 0.0, image)

    reader = _NewestFrame(frames(), lambda: dropped.append(1))
    iterator = iter(reader)
    assert next(iterator).number == 0
    go_on.set()
    time.sleep(0.2)  # the consumer is slow: five frames arrive
    assert next(iterator).number == 5
    assert len(dropped) == 4
    with pytest.raises(StopIteration):
        next(iterator)
    reader.stop()


def test_addresses_of_streams():
    assert is_stream("rtsp://192.0.2.1/live")
    assert is_stream("http://camera/video.mjpg")
    assert not is_stream("C:/videos/a.mp4")
    assert not is_stream("photographs")


def test_a_live_source_that_breaks_is_an_error_and_no_wait():
    def frames():
        yield Frame(0, 0.0, Image.new("RGB", (2, 2)))
        raise RuntimeError("unplugged")

    reader = _NewestFrame(frames(), lambda: None)
    with pytest.raises(RuntimeError, match="unplugged"):
        list(reader)
    reader.stop()


def test_a_source_that_ends_before_its_end_says_why(tmp_path):
    with VideoSource(write_video(tmp_path / "a.mp4")) as video:
        real = video._container

        class Unplugged:
            """The container of a camera that is pulled out after some frames."""

            def demux(self, stream):
                for number, packet in enumerate(real.demux(stream)):
                    if number == 9:
                        raise OSError(19, "No such device")
                    yield packet

        video._container = Unplugged()
        assert 0 < len(list(video)) < 12
        assert video.failure == "No such device"
        video._container = real


def test_broken_frames_are_counted_and_passed_over(tmp_path):
    class Broken:
        def decode(self):
            raise av.error.InvalidDataError(1, "broken")

    with VideoSource(write_video(tmp_path / "a.mp4")) as video:
        real = video._container
        with VideoSource(tmp_path / "a.mp4") as other:
            packets = list(other._container.demux(other._stream))
            mixed = [Broken(), *packets[:6], Broken(), Broken(), *packets[6:]]
            video._container = type("", (), {"demux": lambda self, stream: iter(mixed)})()
            assert len(list(video)) == 12
            assert (video.broken, video.failure) == (3, None)
            video._container = type(
                "", (), {"demux": lambda self, stream: iter([Broken()] * 1000)}
            )()
            assert list(video) == []
            assert video.failure == "100 broken frames in a row"
        video._container = real


def test_a_video_that_lies_on_its_side_is_turned_upright(tmp_path):
    """A telephone held upright writes its frames lying, and how they are to be turned."""

    class Lying:
        rotation, time = 90, 0.5

        def to_image(self):
            image = Image.new("RGB", (4, 2), "blue")
            image.putpixel((3, 0), (255, 0, 0))  # top right becomes top left, turned to the left
            return image

    with VideoSource(write_video(tmp_path / "a.mp4")) as video:
        real = video._container
        packet = type("", (), {"decode": lambda self: [Lying()]})()
        video._container = type("", (), {"demux": lambda self, stream: iter([packet])})()
        [frame] = video
        video._container = real
    assert frame.image.size == (2, 4)
    assert frame.image.getpixel((0, 0)) == (255, 0, 0)
    assert frame.seconds == 0.5


def test_frames_are_shown_when_they_came(tmp_path):
    seconds = [0.0, 0.1, 0.2, 1.2, 1.3]  # a slow machine dropped those between
    with VideoWriter(tmp_path / "a.mp4", 10) as writer:
        for time_ in [*seconds, 1.3]:  # two frames of one time stay two
            writer.write(Image.new("RGB", (64, 48)), time_)
    with VideoSource(tmp_path / "a.mp4") as video:
        assert [frame.seconds for frame in video] == pytest.approx([*seconds, 1.3], abs=1e-3)


def test_a_written_video_appears_whole_and_overwrites_nothing(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="exists already and is not overwritten"):
        VideoWriter(path, 10)
    assert path.read_bytes() == before
    with pytest.raises(FileNotFoundError, match="does not exist; create it first"):
        VideoWriter(tmp_path / "missing" / "a.mp4", 10)
    with VideoWriter(tmp_path / "empty.mp4", 10):
        pass

    def interrupted():
        with VideoWriter(tmp_path / "b.mp4", 10) as writer:
            for _ in range(5):
                writer.write(Image.new("RGB", (64, 48)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with VideoSource(tmp_path / "b.mp4") as video:
        assert len(list(video)) == 5
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_the_password_of_a_stream_is_not_told():
    assert without_password("rtsp://me:secret@192.0.2.1/live") == "rtsp://192.0.2.1/live"
    assert without_password("http://host/a@b") == "http://host/a@b"
    with pytest.raises(UsageError) as raised:
        VideoSource("http://me:secret@127.0.0.1:1/live")
    assert str(raised.value).startswith("http://127.0.0.1:1/live: cannot be opened as a video (")
    assert "secret" not in str(raised.value)


def test_a_file_on_a_server_is_read_to_its_end_and_nothing_is_dropped(tmp_path):
    write_video(tmp_path / "a.mp4", 40)
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with VideoSource(f"http://127.0.0.1:{server.server_port}/a.mp4") as video:
                assert not video.live
                assert len(list(video)) == 40
            with pytest.raises(UsageError, match="cannot be opened as a video"):
                VideoSource(f"http://127.0.0.1:{server.server_port}/missing.mp4")
        finally:
            server.shutdown()
            thread.join()


def test_a_stream_over_http_is_live_and_ends_with_its_transmission(tmp_path):
    """As cameras send them: MPEG-TS without a length, until the connection is closed."""
    with av.open(str(tmp_path / "a.ts"), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(30):
            image = Image.new("RGB", (64, 48), (8 * k, 90, 90))
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode(None))
    content = (tmp_path / "a.ts").read_bytes()

    class Camera(QuietHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            self.wfile.write(content)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with VideoSource(f"http://127.0.0.1:{server.server_port}/live") as video:
                assert video.live
                frames = list(video)
                assert len(frames) + video.dropped >= 28
                assert len(frames) >= 1
        finally:
            server.shutdown()
            thread.join()
