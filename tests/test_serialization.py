"""Arrays and texts through a file and back; what is never lost; what bad files say."""

import os
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_mask import Tensor, nn, serialization

DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")


def assert_same_arrays(came, expected):
    assert set(came) == set(expected)
    for name, array in expected.items():
        assert came[name].dtype == array.dtype
        assert came[name].shape == array.shape
        # Bytes, so that NaN and -0.0 count too.
        assert came[name].tobytes() == array.tobytes()


@settings(max_examples=50)
@given(
    arrays=st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda n: n != "__metadata__"),
        st.sampled_from(DTYPES).flatmap(
            lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
        ),
        max_size=4,
    ),
    metadata=st.dictionaries(
        st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")), max_size=3
    ),
)
def test_what_was_saved_is_loaded(tmp_path_factory, arrays, metadata):
    path = tmp_path_factory.mktemp("saved") / "arrays.safetensors"
    serialization.save(path, arrays, metadata)
    came, texts = serialization.load(path)
    assert_same_arrays(came, arrays)
    assert texts == metadata


VIEWS = {
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "every other": np.arange(10)[::2],
    "reversed": np.arange(5, dtype=np.uint8)[::-1],
    "repeated": np.broadcast_to(np.float32(3), (2, 2)),
    "a column": np.arange(6, dtype=np.float32).reshape(2, 3)[:, 1],
    "Fortran order": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "a number": np.array(2.5),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize("array", VIEWS.values(), ids=VIEWS)
def test_a_view_is_saved_as_what_it_shows(tmp_path, array):
    serialization.save(tmp_path / "a", {"a": array})
    assert_same_arrays(serialization.load(tmp_path / "a")[0], {"a": array})


def test_saving_the_same_twice_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        arrays = {"b": np.arange(3), "a": np.eye(2)}
        serialization.save(tmp_path / name, arrays, {"x": "1"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_order_of_the_texts_does_not_change_the_bytes(tmp_path):
    texts = {f"name {k} é": f'text {k}\n"' for k in range(12)}
    arrays = {"b": np.arange(3.0), "a": np.ones(5, np.uint8)}
    for k in range(6):
        shuffled = dict(sorted(texts.items(), key=lambda item: hash((k, item))))
        serialization.save(tmp_path / f"{k}", arrays, shuffled)
    assert len({(tmp_path / f"{k}").read_bytes() for k in range(6)}) == 1
    came, known = serialization.load(tmp_path / "0")
    assert known == texts
    assert_same_arrays(came, arrays)


def test_a_model_goes_through_a_file(tmp_path):
    def build(seed):
        rng = np.random.default_rng(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 3, rng=rng), nn.BatchNorm(4))

    one, two = build(1), build(2)
    x = Tensor(np.random.default_rng(3).standard_normal((2, 5, 5, 3)).astype(np.float32))
    one(x)  # moves the running statistics
    serialization.save(tmp_path / "model", one.state_dict())
    two.load_state_dict(serialization.load(str(tmp_path / "model"))[0])
    assert np.array_equal(one.eval()(x).numpy(), two.eval()(x).numpy())


def test_loaded_arrays_may_be_written_to(tmp_path):
    serialization.save(tmp_path / "a", {"a": np.zeros(2)})
    arrays, _ = serialization.load(tmp_path / "a")
    arrays["a"][0] = 1
    assert serialization.load(tmp_path / "a")[0]["a"].tolist() == [0, 0]


# --- nothing is lost --------------------------------------------------------------------------


def test_an_existing_file_is_not_overwritten(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=rf"^{re.escape(str(path))} exists.*$"):
        serialization.save(path, {"a": np.zeros(2)})
    assert path.read_text() == "precious"
    assert os.listdir(tmp_path) == [path.name]


def test_an_existing_file_is_overwritten_when_told_so(tmp_path):
    serialization.save(tmp_path / "a", {"a": np.zeros(2)}, {"k": "old"})
    serialization.save(tmp_path / "a", {"b": np.ones(1)}, overwrite=True)
    arrays, metadata = serialization.load(tmp_path / "a")
    assert (list(arrays), metadata) == (["b"], {})
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch, existing, failure):
    path = tmp_path / "model.safetensors"
    if existing:
        serialization.save(path, {"a": np.zeros(2)})

    def fail(*_, **__):
        raise failure

    # Whichever of them moves the finished file to its place.
    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr(type(path), "replace", fail)
    with pytest.raises(type(failure)):
        serialization.save(path, {"a": np.ones(2)}, overwrite=True)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == [path.name] * existing
    if existing:
        assert serialization.load(path)[0]["a"].tolist() == [0, 0]


def test_a_disk_that_fills_up_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    serialization.save(path, {"a": np.zeros(2)})

    def half(self, content):
        with open(self, "wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", half)
    with pytest.raises(OSError, match="No space left"):
        serialization.save(path, {"a": np.ones(2)}, overwrite=True)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == [path.name]
    assert serialization.load(path)[0]["a"].tolist() == [0, 0]


@pytest.mark.parametrize(
    "array",
    [np.array(["text"]), np.array([object()]), np.zeros(2, np.longdouble)],
    ids=["text", "object", "longdouble"],
)
def test_what_cannot_be_saved_is_refused_and_leaves_no_file(tmp_path, array):
    with pytest.raises((TypeError, ValueError), match=r"^[^\n]*weight[^\n]*$"):
        serialization.save(tmp_path / "a", {"weight": array})
    assert os.listdir(tmp_path) == []


# --- files that are something else ------------------------------------------------------------


def broken_files():
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    whole = len(header).to_bytes(8, "little") + header + bytes(8)
    return {
        "empty": b"",
        "text": b"this is no model at all",
        "cut short": whole[:-3],
        "too long": whole + b"x",
        "header cut short": whole[:20],
        "header of absurd length": (2**62).to_bytes(8, "little") + whole[8:],
        "header of other bytes": whole[:8] + b"\xff" * len(header) + bytes(8),
        "shape of another size": whole.replace(b"[2]", b"[3]"),
        "unknown dtype": whole.replace(b"F32", b"Z99"),
    }


BROKEN = broken_files()


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: [^\n]+$"):
        serialization.load(path)


def test_a_dtype_that_numpy_lacks_is_named_in_one_line(tmp_path):
    path = tmp_path / "model.safetensors"
    header = b'{"a":{"dtype":"F8_E5M2","shape":[2],"data_offsets":[0,2]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: [^\n]+$"):
        serialization.load(path)


def test_a_missing_file_is_an_os_error_that_names_it(tmp_path):
    path = tmp_path / "nowhere.safetensors"
    with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
        serialization.load(path)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(OSError, match=re.escape(str(tmp_path))):
        serialization.load(tmp_path)
