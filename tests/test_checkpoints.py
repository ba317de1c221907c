"""What `tg.save` writes, `tg.load` gives back; plain files are plain safetensors files."""

import re

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_mask as tg
from tinygrad_mask import Tensor, nn, optim

DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
OBJECTS = st.recursive(
    ARRAYS | ARRAYS.map(Tensor) | VALUES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text("ab. ", max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def assert_same(came, expected):
    assert type(came) is type(expected)
    if isinstance(expected, dict):
        assert list(came) == list(expected)
        came, expected = list(came.values()), list(expected.values())
    if isinstance(expected, list | tuple):
        for a, b in zip(came, expected, strict=True):
            assert_same(a, b)
    elif isinstance(expected, Tensor | np.ndarray):
        a, b = np.asarray(came), np.asarray(expected)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    else:
        assert came == expected or (came != came and expected != expected)  # NaN


@settings(max_examples=100)
@given(obj=OBJECTS)
def test_what_was_saved_is_loaded(tmp_path_factory, obj):
    path = tmp_path_factory.mktemp("saved") / "object"
    tg.save(obj, path)
    assert_same(tg.load(path), obj)


def test_a_run_goes_on_from_its_checkpoint(tmp_path):
    def build(seed):
        model = nn.Sequential(nn.Linear(3, 4, rng=np.random.default_rng(seed)), nn.BatchNorm(4))
        return model, optim.Adam(model.parameters(), 1e-2)

    def steps(model, optimizer):
        for seed in range(3):
            optimizer.zero_grad()
            x = Tensor(np.random.default_rng(seed).standard_normal((5, 3)).astype(np.float32))
            (model(x) ** 2).sum().backward()
            optimizer.step()

    model, optimizer = build(0)
    steps(model, optimizer)
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    tg.save(content, tmp_path / "checkpoint")
    resumed, its_optimizer = build(1)
    checkpoint = tg.load(tmp_path / "checkpoint")
    resumed.load_state_dict(checkpoint["model"])
    its_optimizer.load_state_dict(checkpoint["optimizer"])
    assert checkpoint["epoch"] == 3
    steps(model, optimizer)
    steps(resumed, its_optimizer)
    for one, two in zip(model.parameters(), resumed.parameters(), strict=True):
        assert one.numpy().tobytes() == two.numpy().tobytes()


@pytest.mark.parametrize("of", [nn.Module.state_dict, lambda model: model])
def test_a_state_dict_is_a_plain_safetensors_file(tmp_path, of):
    model = nn.Linear(2, 3)
    tg.save(of(model), tmp_path / "model.safetensors")
    theirs = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert set(theirs) == {"weight", "bias"}
    assert theirs["weight"].tobytes() == model.weight.numpy().tobytes()
    assert set(tg.load(tmp_path / "model.safetensors")) == {"weight", "bias"}


def test_files_are_replaced_unless_told_otherwise(tmp_path):
    tg.save(1, tmp_path / "a")
    tg.save(2, tmp_path / "a")
    with pytest.raises(FileExistsError, match="exists already"):
        tg.save(3, tmp_path / "a", overwrite=False)
    assert tg.load(tmp_path / "a") == 2


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (
            {"a": [1, object()]},
            "save: expected arrays, .* or dictionaries, .*, got object at a.1$",
        ),
        ({"a": {1: 2}}, r"save: expected strings as keys, got 1 at a; use str\(1\)$"),
        ({1, 2}, "got set$"),
        (np.array(["text"]), "expected numbers in array"),
    ],
)
def test_what_cannot_be_saved_is_refused(tmp_path, obj, message):
    with pytest.raises(TypeError, match=message):
        tg.save(obj, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_arguments_in_the_wrong_order_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"^save: expected save\(obj, path\), got a dict for path"):
        tg.save(str(tmp_path / "a"), {})


def test_a_pytorch_checkpoint_is_refused_with_the_way_to_go(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: .*convert.from_torch$"):
        tg.load(path)


def test_a_structure_that_names_no_array_is_refused_in_one_line(tmp_path):
    path = tmp_path / "a"
    metadata = {"tinygrad_mask structure 1": '{"array": "missing"}'}
    safetensors.numpy.save_file({"b": np.zeros(1)}, path, metadata)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: its structure .*$"):
        tg.load(path)
