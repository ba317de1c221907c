"""Exchange with PyTorch: state dicts, memory by DLPack, the parts of a random split."""

import numpy as np
import pytest

import tinygrad_mask as tg
from tinygrad_mask import Tensor, convert, nn
from tinygrad_mask.data import random_split

torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")

DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")


@pytest.mark.parametrize("dtype", DTYPES)
def test_both_ways_share_the_memory(dtype):
    theirs = torch.zeros((2, 3), dtype=getattr(torch, dtype)).T
    tensor = tg.from_dlpack(theirs)
    assert (tensor.shape, tensor.dtype) == ((3, 2), np.dtype(dtype))
    theirs[0, 1] = 1
    assert tensor.numpy()[0, 1] == 1
    back = torch.from_dlpack(tensor)
    assert back.dtype == theirs.dtype
    tensor[2, 0] = 1
    assert back[2, 0] == theirs[2, 0] == 1


def test_gradients_stay_behind():
    with pytest.raises(BufferError, match="require"):
        tg.from_dlpack(torch.ones(2, requires_grad=True))
    with pytest.raises(BufferError, match="export detach"):
        torch.from_dlpack(Tensor([1.0], requires_grad=True))


@pytest.mark.filterwarnings("ignore:Length of split:UserWarning")  # PyTorch, of an empty part
@pytest.mark.parametrize("shares", [[0.8, 0.2], [0.29, 0.71], [0.25] * 4, [1.0], [0.5, 0.0, 0.5]])
@pytest.mark.parametrize("total", [0, 1, 7, 100])
def test_shares_are_rounded_as_in_pytorch(total, shares):
    theirs = torch.utils.data.random_split(range(total), shares)
    ours = random_split(range(total), shares)
    assert [len(part) for part in ours] == [len(part) for part in theirs]


# --- state dicts ----------------------------------------------------------------------------------


def cnn(channels=3, outputs=5, size=12):
    """Two networks with convolutions, a depthwise one, batch norm, a flatten and square weights."""
    flat = 6 * (size // 2) * (size // 2 + 1)
    ours = nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1),
        nn.BatchNorm(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, (3, 1), padding=(1, 0), groups=4, bias=False),
        nn.Conv2d(4, 6, 1),
        nn.MaxPool2d(2),
        nn.Sequential(nn.Dropout(0.1), nn.Flatten()),
        nn.Linear(flat, 7),
        nn.BatchNorm(7),
        nn.Linear(7, 7),
        nn.Tanh(),
        nn.Linear(7, outputs, bias=False),
    )
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(channels, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 4, (3, 1), padding=(1, 0), groups=4, bias=False),
        torch.nn.Conv2d(4, 6, 1),
        torch.nn.MaxPool2d(2),
        torch.nn.Sequential(torch.nn.Dropout(0.1), torch.nn.Flatten()),
        torch.nn.Linear(flat, 7),
        torch.nn.BatchNorm1d(7),
        torch.nn.Linear(7, 7),
        torch.nn.Tanh(),
        torch.nn.Linear(7, outputs, bias=False),
    )
    with torch.no_grad():
        for buffer in theirs.buffers():  # running statistics that matter
            if buffer.dtype.is_floating_point:
                buffer.uniform_(0.5, 2)
    return ours, theirs


def assert_equal_outputs(ours, theirs, channels=3, size=12):
    x = np.random.default_rng(0).standard_normal((3, size, size + 2, channels)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(ours.eval()(Tensor(x)).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_network_of_pytorch_gives_the_same_here():
    ours, theirs = cnn()
    ours.load_state_dict(convert.from_torch(theirs.state_dict(), ours))
    assert_equal_outputs(ours, theirs)


def test_a_network_of_ours_gives_the_same_in_pytorch():
    ours, theirs = cnn()
    ours.train()(Tensor(np.random.default_rng(1).random((4, 12, 14, 3), np.float32)))
    theirs.load_state_dict(convert.to_torch(ours))  # strict
    assert_equal_outputs(ours, theirs)


def test_there_and_back_gives_the_same_bits():
    ours, _ = cnn()
    back = convert.from_torch(convert.to_torch(ours), ours)
    state = ours.state_dict()
    assert set(back) == set(state)
    for name, array in state.items():
        assert back[name].tobytes() == array.tobytes(), name


def test_what_pytorch_is_given_shares_no_memory():
    ours, _ = cnn()
    before = ours.state_dict()
    for tensor in convert.to_torch(ours).values():
        tensor.zero_()
    for name, array in ours.state_dict().items():
        assert array.tobytes() == before[name].tobytes()


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions_and_normalisations(groups):
    def network(modules):
        return modules.Sequential(
            modules.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=groups),
            modules.GroupNorm(2, 6),
            modules.ReLU(),
            modules.ConvTranspose2d(6, 4, (2, 3), bias=False),
            modules.Flatten(),
            modules.Linear(4 * 8 * 13, 5),
            modules.LayerNorm(5),
        )

    ours, theirs = network(nn), network(torch.nn)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.uniform_(-1, 1)
    ours.load_state_dict(convert.from_torch(theirs.state_dict(), ours))
    assert_equal_outputs(ours, theirs, channels=4, size=4)
    back = convert.to_torch(ours)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(back[name], tensor)


def test_an_embedding_is_the_same_on_both_sides():
    theirs, ours = torch.nn.Embedding(5, 5), nn.Embedding(5, 5)
    ours.load_state_dict(convert.from_torch(theirs.state_dict(), ours))
    np.testing.assert_array_equal(ours.weight.numpy(), theirs.weight.detach().numpy())


def test_a_square_weight_is_transposed():
    theirs = torch.nn.Linear(3, 3)
    ours = nn.Linear(3, 3)
    ours.load_state_dict(convert.from_torch(theirs.state_dict(), ours))
    np.testing.assert_array_equal(ours.weight.numpy(), theirs.weight.detach().numpy().T)


class OwnForward(nn.Module):
    """As most networks are written: the flatten is not to be seen from outside."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc1 = nn.Linear(4 * 10 * 12, 4)
        self.fc2 = nn.Linear(4, 2)

    def forward(self, x):
        x = self.conv(x)
        return self.fc2(self.fc1(x.reshape(x.shape[0], -1)))


class TheirForward(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.fc1 = torch.nn.Linear(4 * 10 * 12, 4)
        self.fc2 = torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.fc2(self.fc1(self.conv(x).flatten(1)))


def test_a_flatten_that_is_not_seen_is_asked_for():
    ours, theirs = OwnForward(), TheirForward()
    for call in (
        lambda: convert.from_torch(theirs.state_dict(), ours),
        lambda: convert.to_torch(ours),
    ):
        with pytest.raises(ValueError, match=r"the 480 inputs of fc1 .* flattened=\{'fc1': 4\}"):
            call()
    state = convert.from_torch(theirs.state_dict(), ours, flattened={"fc1": 4})
    ours.load_state_dict(state)
    assert_equal_outputs(ours, theirs)
    theirs.load_state_dict(convert.to_torch(ours, flattened={"fc1": 4}))
    assert_equal_outputs(ours, theirs)


class Doubled(nn.Module):
    """Twice as many channels as its convolution gives."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        y = self.conv(x)
        return tg.functions.concatenate([y, y], axis=-1)


@pytest.mark.parametrize(
    ("layers", "name"),
    [
        ([nn.Flatten(), nn.Linear(12, 2)], "1"),  # of which channels, nothing says
        ([Doubled(), nn.Flatten(), nn.Linear(8 * 100, 2)], "2"),
        ([nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 25 + 1, 2)], "2"),
        ([nn.Conv2d(3, 4, 3), nn.Flatten(2), nn.Linear(4 * 25, 2)], "2"),
        ([nn.Embedding(9, 4), nn.Flatten(), nn.Linear(4 * 6, 2)], "2"),  # are no images
        ([nn.Linear(3, 4), Doubled(), nn.Linear(8, 2)], "2"),
    ],
)
def test_whatever_is_in_doubt_is_asked_for(layers, name):
    model = nn.Sequential(*layers)
    with pytest.raises(ValueError, match=rf"inputs of {name} .* flattened=\{{'{name}': "):
        convert.to_torch(model)
    assert convert.to_torch(model, flattened={name: 1})


def test_features_need_nothing_said():
    pooled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GlobalAvgPool2d(), nn.Linear(4, 2))
    assert convert.to_torch(pooled)["2.weight"].shape == (2, 4)
    assert convert.to_torch(nn.Sequential(nn.Linear(12, 6), nn.Linear(6, 2)))


@pytest.mark.parametrize(
    ("flattened", "message"),
    [
        ({"conv": 4}, "expected flattened to name Linear layers, got 'conv'; .* fc1, fc2"),
        ({"fc1": 7}, r"expected flattened\['fc1'\] to divide its 480 inputs, got 7"),
        ({"fc1": 0}, "got 0"),
    ],
)
def test_what_flattened_may_not_say(flattened, message):
    with pytest.raises(ValueError, match=message):
        convert.to_torch(OwnForward(), flattened=flattened)


class Unknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(np.ones(3, np.float32))
        self.table = nn.Parameter(np.ones((3, 3), np.float32))


def test_a_layer_of_unknown_layout_is_refused():
    with pytest.raises(ValueError, match=r"got Unknown with table of shape \(3, 3\); convert"):
        convert.to_torch(Unknown())


def test_what_the_model_does_not_have_is_left_for_load_state_dict_to_report():
    ours = nn.Linear(2, 3)
    state = {**torch.nn.Linear(2, 3).state_dict(), "other": torch.zeros(2, 2)}
    with pytest.raises(ValueError, match="unexpected: other"):
        ours.load_state_dict(convert.from_torch(state, ours))
