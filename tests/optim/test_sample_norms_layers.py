"""Every covered kind of layer, with every option, used once, twice and together with others; and those refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optim import PerSampleNorms
from optim.sample_norms import norms as ways
from optim.sample_norms.terms import FEW_CHANNELS

CONVOLUTIONS = {
    "plain": {},
    "strided with a rest": {"stride": 3, "padding": 1},
    "dilated": {"dilation": 2, "padding": 2},
    "grouped": {"groups": 2, "padding": 1},
    "depthwise": {"groups": None, "padding": 1, "stride": 2},
    "same": {"padding": "same"},
    "same, even kernel": {"padding": "same", "kernel_size": 4, "dilation": 1},
    "valid": {"padding": "valid", "bias": False},
    "reflected": {"padding": 1, "padding_mode": "reflect", "stride": 2},
    "replicated": {"padding": 2, "padding_mode": "replicate", "groups": 4},
    "circular, same, even kernel": {"padding": "same", "padding_mode": "circular", "kernel_size": 2},
    "reflected, same, dilated": {"padding": "same", "padding_mode": "reflect", "dilation": 2},
    "all at once": {"padding": 3, "padding_mode": "circular", "groups": 2, "stride": 2, "dilation": 2},
    "one by one": {"kernel_size": 1, "stride": 2},
}


@pytest.fixture(params=["gram", "gradient", "pieces"])
def way(request, monkeypatch) -> str:
    """Both ways to a norm, whatever they cost, and a batch in pieces."""
    if request.param == "gram":
        monkeypatch.setattr(ways, "_by_gradient", ways._by_gram)
    elif request.param == "gradient":
        monkeypatch.setattr(ways, "_by_gram", ways._by_gradient)
    else:
        monkeypatch.setitem(ways.CHUNK, "cpu", 1)
    return request.param


def mean_norms_of(model: nn.Module, inputs: Tensor) -> dict[str, float]:
    torch.manual_seed(7)
    with PerSampleNorms(model) as norms:
        output = model(inputs)
        (output * torch.randn(output.shape, dtype=output.dtype)).sum().div(len(inputs)).backward()
        return {name: mean for name, (mean, _) in norms.mean_norms().to_dict().items()}


def batch_one_norms(model: nn.Module, inputs: Tensor) -> dict[str, float]:
    torch.manual_seed(7)
    output = model(inputs)
    directions = torch.randn(output.shape, dtype=output.dtype)
    weights = {name: param for name, param in model.named_parameters() if param.ndim > 1}
    sums = dict.fromkeys(weights, 0.0)
    for i in range(len(inputs)):
        loss = (model(inputs[i : i + 1]) * directions[i : i + 1]).sum()
        for name, gradient in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
            sums[name] += float(gradient.norm()) / len(inputs)
    return sums


def check(model: nn.Module, inputs: Tensor) -> None:
    found, expected = mean_norms_of(model, inputs), batch_one_norms(model, inputs)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value > 0
        assert found[name] == pytest.approx(value, rel=1e-11), name


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("channels", [4, FEW_CHANNELS], ids=["windows", "convolution"])
@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions(dimensions, channels, options):
    torch.manual_seed(0)
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    groups = options.get("groups", 1) or channels
    layer = kind(channels, 8, **{"kernel_size": 3, **options, "groups": groups}).double()
    check(layer, torch.randn(3, channels, *(7, 6, 8)[:dimensions], dtype=torch.float64))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("samples", [1, 3])
def test_memory_layout_of_images_does_not_matter(samples):
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 12, 3, padding=1).double().to(memory_format=torch.channels_last)
    images = torch.randn(samples, 16, 5, 4, dtype=torch.float64)
    check(layer, images.to(memory_format=torch.channels_last))


def test_uneven_kernels_strides_and_paddings():
    layer = nn.Conv2d(3, 4, (3, 2), stride=(1, 2), padding=(2, 0), dilation=(1, 3)).double()
    check(layer, torch.randn(3, 3, 6, 9, dtype=torch.float64))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("between", [(), (5,), (2, 3)])
def test_linear_on_any_leading_dimensions(between):
    torch.manual_seed(0)
    check(nn.Linear(6, 4).double(), torch.randn(3, *between, 6, dtype=torch.float64))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("shape", [(4,), (4, 6), (4, 2, 3)])
@pytest.mark.parametrize("padding_idx", [None, 1, -1])
def test_embedding_adds_up_the_places_of_a_word(shape, padding_idx):
    torch.manual_seed(0)
    tokens = torch.randint(0, 4, shape)
    check(nn.Embedding(4, 5, padding_idx=padding_idx).double(), tokens)


@pytest.mark.parametrize("padding_idx", [None, 0])
def test_embedding_whose_rows_are_renormalised_in_the_forward_pass(padding_idx):
    torch.manual_seed(0)
    layer = nn.Embedding(6, 5, padding_idx=padding_idx, max_norm=0.5).double()
    before = layer.weight.detach().clone()
    check(layer, torch.randint(0, 6, (4, 7)))
    assert not torch.equal(before, layer.weight)


@pytest.mark.parametrize("padding_idx", [None, 0])
def test_embedding_scaled_by_frequency(padding_idx):
    torch.manual_seed(0)
    layer = nn.Embedding(4, 5, scale_grad_by_freq=True, padding_idx=padding_idx).double()
    tokens = torch.tensor([[0, 0, 1], [0, 2, 1]])
    directions = torch.randn(2, 3, 5, dtype=torch.float64)
    norms = PerSampleNorms(layer, loss_reduction="sum")
    (layer(tokens) * directions).sum().backward()
    if padding_idx is not None:
        directions[tokens == padding_idx] = 0
    counts = torch.tensor([3, 2, 1, 0])[tokens].unsqueeze(-1)
    terms = [torch.zeros(4, 5, dtype=torch.float64).index_add_(0, tokens[i], (directions / counts)[i]) for i in (0, 1)]
    torch.testing.assert_close(sum(terms), layer.weight.grad, rtol=1e-12, atol=0)  # the terms are the gradient's
    assert norms.mean_norms().means.item() == pytest.approx(float(sum(t.norm() for t in terms)) / 2, rel=1e-12)


class Twice(nn.Module):
    """One layer called twice in a row, or twice side by side at different sizes."""

    def __init__(self, layer: nn.Module, in_a_row: bool) -> None:
        super().__init__()
        self.layer, self.in_a_row = layer, in_a_row

    def forward(self, x: Tensor) -> Tensor:
        if self.in_a_row:
            return self.layer(torch.tanh(self.layer(x)))
        return self.layer(x).flatten(1).sum(1) * self.layer(x[..., :4]).flatten(1).sum(1)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("in_a_row", [True, False])
def test_a_module_called_twice_sums_before_the_norm(in_a_row):
    torch.manual_seed(0)
    check(Twice(nn.Conv1d(3, 3, 3, padding=1).double(), in_a_row), torch.randn(4, 3, 6, dtype=torch.float64))
    check(Twice(nn.Linear(6, 6).double(), True), torch.randn(4, 5, 6, dtype=torch.float64))
    if not in_a_row:
        check(Twice(nn.Embedding(5, 3).double(), False), torch.randint(0, 5, (4, 6)))


def test_a_module_under_two_names_is_one_layer():
    torch.manual_seed(0)
    layer = nn.Linear(5, 5).double()
    check(nn.Sequential(layer, nn.Tanh(), layer), torch.randn(4, 5, dtype=torch.float64))


class ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(input=x)


def test_an_input_given_by_keyword_is_seen():
    torch.manual_seed(0)
    check(ByKeyword().double(), torch.randn(4, 5, dtype=torch.float64))


class Tied(nn.Module):
    """An embedding whose weight is also that of the last layer, as in language models."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 5)
        self.head = nn.Linear(5, 7)
        self.head.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.words(tokens)))


@pytest.mark.usefixtures("way")
def test_a_tied_weight_sums_the_terms_of_both_layers():
    torch.manual_seed(0)
    check(Tied().double(), torch.randint(0, 7, (4, 6)))


@pytest.mark.parametrize("positions", [1, 3, 4, 20])
def test_the_cheaper_way_is_taken(monkeypatch, positions):
    taken = []

    def note(name: str) -> None:
        way = getattr(ways, name)
        monkeypatch.setattr(ways, name, lambda terms: taken.append(name) or way(terms))

    note("_by_gram")
    note("_by_gradient")
    mean_norms_of(nn.Linear(8, 8), torch.randn(2, positions, 8))
    # T (D + C) < D C
    assert taken == ["_by_gram" if positions * 16 < 64 else "_by_gradient"]


class OwnForward(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight / self.weight.norm(), self.bias)


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(5, 3))


REFUSED = {
    "transposed": (lambda: nn.ConvTranspose2d(2, 3, 3), r"1\.weight .*ConvTranspose2d"),
    "recurrent": (lambda: nn.LSTM(2, 3), r"1\.weight_ih_l0 .*1\.weight_hh_l0 .*LSTM"),
    "attention": (lambda: nn.MultiheadAttention(4, 2), r"1\.in_proj_weight .*MultiheadAttention"),
    "own forward": (lambda: OwnForward(2, 3), r"1\.weight .*OwnForward"),
    "own parameter": (Positions, r"1\.table of shape \(5, 3\) in Positions"),
    "reparametrized": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)), r"1\.parametrizations"),
    "bilinear": (lambda: nn.Bilinear(2, 2, 2), r"1\.weight .*Bilinear"),
    "sparse": (lambda: nn.Embedding(4, 2, sparse=True), r"1\.weight .*Embedding"),
    "bag": (lambda: nn.EmbeddingBag(4, 2), r"1\.weight .*EmbeddingBag"),
}


@pytest.mark.parametrize(("make", "named"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("mode", ["exact", "subset"])
def test_layers_that_are_not_covered_are_refused_by_name(make, named, mode):
    model = nn.Sequential(nn.Linear(2, 2), make())
    with pytest.raises(ValueError, match=named) as refusal:
        PerSampleNorms(model, mode)
    assert "0.weight" not in str(refusal.value)
    assert not model[0]._forward_hooks
    PerSampleNorms(model, "micro_batch")  # needs no samples
    model[1].requires_grad_(False)
    PerSampleNorms(model, mode)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(2), nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.PReLU(2), nn.RMSNorm(2)])
def test_norm_layers_and_biases_have_no_hooks(norm):
    model = nn.Sequential(nn.Linear(2, 2), norm)
    norms = PerSampleNorms(model)
    assert not norm._forward_hooks
    assert [weight in norms for weight in model.parameters()] == [True] + [False] * (len(list(norm.parameters())) + 1)
    model(torch.randn(3, 2)).sum().backward()
    assert norms.mean_norms().names == ("0.weight",)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (nn.Linear(3, 2), torch.randn(3)),
        (nn.Conv2d(2, 2, 3), torch.randn(2, 5, 5)),
        (nn.Embedding(3, 2), torch.tensor(1)),
    ],
)
def test_inputs_without_a_batch_are_refused(layer, inputs):
    PerSampleNorms(layer)
    with pytest.raises(RuntimeError, match=r"weight got an input without a batch dimension"):
        layer(inputs)


def test_layers_that_disagree_on_the_samples_are_refused():
    model = nn.ModuleDict({"words": nn.Embedding(5, 4), "places": nn.Embedding(6, 4)})
    PerSampleNorms(model)
    shared = model["places"](torch.arange(6))  # one row a place, for all samples
    with pytest.raises(RuntimeError, match=r"first dimension .*(6 at places.*3 at words|3 at words.*6 at places)"):
        (model["words"](torch.zeros(3, 6, dtype=torch.long)) + shared).square().sum().backward()
