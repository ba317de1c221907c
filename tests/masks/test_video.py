"""Frames of videos: all of a file, the newest of a live source, and what is broken."""

import threading
import time

import av
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
)


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
