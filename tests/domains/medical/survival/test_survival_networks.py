"""CMTA against its authors' code and against a plain second writing of it, and what every network promises."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from domains.medical.survival.adapters.cmta import Cmta
from domains.medical.survival.losses import cox_loss, nll_loss
from domains.medical.survival.networks.cmta import TranslationNetwork
from domains.medical.survival.networks.genomics import FeatureScaling, GenomicNetwork
from domains.medical.survival.networks.heads import DiscreteHead, ProportionalHead
from domains.medical.survival.networks.slides import SlideNetwork
from shared_attention.parity import verify
from shared_attention.published import Given, State, register_adapters

SIZES = (3, 4, 5, 2, 6, 3)


def test_references_are_met(golden_root):
    register_adapters("domains.medical.survival.adapters")
    verdicts = verify(golden_root, ["cmta", "survival_losses"])
    assert [(one.case, one.status, one.message) for one in verdicts] == [
        ("cmta/a", "equal", ""),
        ("survival_losses/a", "equal", ""),
    ]


class Nystrom(nn.Module):
    """Nyström attention as the package nystrom-attention has it, for one patient, written out."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim))
        self.res_conv = nn.Conv2d(8, 8, (33, 1), padding=(16, 0), groups=8, bias=False)
        self.landmarks = dim // 2

    def forward(self, x):
        count, dim = x.shape[1:]
        lead = -count % self.landmarks
        x = torch.cat([x.new_zeros(1, lead, dim), x], 1)
        q, k, v = (part.reshape(1, -1, 8, dim // 8).transpose(1, 2) for part in self.to_qkv(x).chunk(3, -1))
        q = q / math.sqrt(dim // 8)
        mean_q, mean_k = (torch.stack(part.chunk(self.landmarks, 2), 2).mean(3) for part in (q, k))
        one, two, three = (
            torch.softmax(a @ b.transpose(-1, -2), -1) for a, b in ((q, mean_k), (mean_q, mean_k), (mean_q, k))
        )
        inverse = two.transpose(-1, -2) / (two.sum(-1).max() * two.sum(-2).max())
        eye = torch.eye(self.landmarks)
        for _ in range(6):
            xz = two @ inverse
            inverse = 0.25 * inverse @ (13 * eye - xz @ (15 * eye - xz @ (7 * eye - xz)))
        out = one @ inverse @ three @ v + self.res_conv(v)
        return self.to_out(out.transpose(1, 2).flatten(2))[:, lead:]


class Layer(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(dim), Nystrom(dim)

    def forward(self, x):
        return x + self.attn(self.norm(x))


class Position(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj, self.proj1, self.proj2 = (
            nn.Conv2d(dim, dim, size, padding=size // 2, groups=dim) for size in (7, 5, 3)
        )

    def forward(self, x, side):
        image = x[:, 1:].transpose(1, 2).reshape(1, -1, side, side)
        image = image + self.proj(image) + self.proj1(image) + self.proj2(image)
        return torch.cat([x[:, :1], image.flatten(2).transpose(1, 2)], 1)


class Transformer(nn.Module):
    def __init__(self, dim: int, square: bool) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.layer1, self.layer2, self.norm = Layer(dim), Layer(dim), nn.LayerNorm(dim)
        if square:
            self.pos_layer = Position(dim)

    def forward(self, x):
        side = math.ceil(math.sqrt(x.shape[1]))
        if hasattr(self, "pos_layer"):
            x = torch.cat([x, x[:, : side**2 - x.shape[1]]], 1)
        x = self.layer1(torch.cat([self.cls_token, x], 1))
        if hasattr(self, "pos_layer"):
            x = self.pos_layer(x, side)
        x = self.norm(self.layer2(x))
        return x[:, 0], x[:, 1:]


class Bilinear(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        narrow = dim // 8
        for side in (1, 2):
            setattr(self, f"linear_h{side}", nn.Sequential(nn.Linear(dim, narrow)))
            setattr(self, f"linear_z{side}", nn.Sequential(nn.Linear(2 * dim, narrow)))
            setattr(self, f"linear_o{side}", nn.Sequential(nn.Linear(narrow, narrow)))
        self.encoder1 = nn.Sequential(nn.Linear((narrow + 1) ** 2, 256))
        self.encoder2 = nn.Sequential(nn.Linear(256, dim))

    def forward(self, both):
        first, second = both.chunk(2, 1)
        one = torch.relu(self.linear_o1(torch.sigmoid(self.linear_z1(both)) * torch.relu(self.linear_h1(first))))
        two = torch.relu(self.linear_o2(torch.sigmoid(self.linear_z2(both)) * torch.relu(self.linear_h2(second))))
        one, two = (torch.cat([part, torch.ones(1, 1)], 1) for part in (one, two))
        return torch.relu(self.encoder2(torch.relu(self.encoder1(torch.einsum("bi,bj->bij", one, two).flatten(1)))))


class Published(nn.Module):
    """CMTA with the names of its authors' state, from the paper and the notes, with PyTorch's own attention."""

    def __init__(self, dim, bag_widths, group_widths, fusion) -> None:
        super().__init__()
        layers = []
        for before, width in zip((7, *bag_widths[:-1]), bag_widths, strict=True):
            layers += [nn.Linear(before, width), nn.ReLU(), nn.Dropout(0.25)]
        self.pathomics_fc = nn.Sequential(*layers)
        self.genomics_fc = nn.ModuleList(
            nn.Sequential(
                *(
                    nn.Sequential(nn.Linear(before, width), nn.ELU())
                    for before, width in zip((size, *group_widths[:-1]), group_widths, strict=True)
                )
            )
            for size in SIZES
        )
        self.pathomics_encoder, self.pathomics_decoder = Transformer(dim, True), Transformer(dim, True)
        self.genomics_encoder, self.genomics_decoder = Transformer(dim, False), Transformer(dim, False)
        self.P_in_G_Att, self.G_in_P_Att = (nn.MultiheadAttention(dim, 1, batch_first=True) for _ in range(2))
        concat = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU())
        self.mm = concat if fusion == "concat" else Bilinear(dim)
        self.classifier = nn.Linear(dim, 5)

    def forward(self, path, omics):
        genome = torch.stack([fc(part) for fc, part in zip(self.genomics_fc, omics, strict=True)])[None]
        p, p_tokens = self.pathomics_encoder(self.pathomics_fc(path)[None])
        g, g_tokens = self.genomics_encoder(genome)
        p_hat, _ = self.pathomics_decoder(self.P_in_G_Att(p_tokens, g_tokens, g_tokens)[0])
        g_hat, _ = self.genomics_decoder(self.G_in_P_Att(g_tokens, p_tokens, p_tokens)[0])
        hazards = torch.sigmoid(self.classifier(self.mm(torch.cat([(p + p_hat) / 2, (g + g_hat) / 2], 1))))
        return {"hazards": hazards, "P": p, "P_hat": p_hat, "G": g, "G_hat": g_hat}


@pytest.mark.parametrize(
    ("dim", "bag_widths", "group_widths", "fusion", "instances"),
    [
        pytest.param(16, (16, 16), (12, 16), "concat", 5, id="small, fewer instances than landmarks"),
        pytest.param(32, (20, 32), (12, 14, 18, 32), "concat", 40, id="large, four genomic layers"),
        pytest.param(16, (16, 16), (16,), "bilinear", 9, id="bilinear, a full square"),
        pytest.param(24, (24,), (8, 24), "bilinear", 1, id="bilinear, a single instance"),
    ],
)
@torch.no_grad()
def test_other_sizes_agree_with_a_second_writing(dim, bag_widths, group_widths, fusion, instances):
    torch.manual_seed(dim + instances)
    theirs = Published(dim, bag_widths, group_widths, fusion).eval()
    for parameter in theirs.parameters():
        parameter.normal_(std=0.3)
    path, omics = torch.randn(instances, 7), [torch.randn(size) for size in SIZES]
    inputs = {"x_path": path, "Y": torch.tensor([1])} | {f"x_omic{n}": part for n, part in enumerate(omics, start=1)}
    given = Given({"omic_sizes": list(SIZES), "n_classes": 5, "fusion": fusion, "model_size": "large"})
    adapter = Cmta(given, State(theirs.state_dict()), inputs)
    outputs = adapter.run(adapter.load())
    for name, wanted in theirs(path, omics).items():
        torch.testing.assert_close(outputs[f"out.{name}"], wanted, rtol=1e-4, atol=1e-5)


def networks():
    head = DiscreteHead(3, [0.2, 0.3, 0.4])
    groups = [range(0, 4), range(2, 6)]
    cmta = {"dim": 16, "bag_widths": (16,), "group_widths": (16,)}
    yield "snn", GenomicNetwork(6, head, widths=(8,))
    yield "linear, proportional", GenomicNetwork(6, ProportionalHead([0.2, 0.3, 0.4]), widths=())
    yield "gated", SlideNetwork(5, head, hidden=8)
    yield "transmil", SlideNetwork(5, head, aggregator="transmil", hidden=16)
    yield "cmta", TranslationNetwork(groups, 5, head, **cmta)
    yield "cmta, bilinear", TranslationNetwork(groups, 5, head, fusion="bilinear", **cmta)


@pytest.mark.parametrize("name", [name for name, _ in networks()])
def test_a_patient_in_a_batch_gives_what_it_gives_alone(name):
    torch.manual_seed(0)
    network = dict(networks())[name].eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    genomics, bags = torch.randn(4, 6), torch.randn(4, 11, 5)
    lengths = [11, 3, 7, 8]
    mask = torch.arange(11)[None] < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        together = network(genomics, bags, mask)
        for at, length in enumerate(lengths):
            alone = network(genomics[at : at + 1], bags[at : at + 1, :length])
            torch.testing.assert_close(together.hazards[at], alone.hazards[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(together.risk[at], alone.risk[0], rtol=1e-4, atol=1e-5)
    assert together.hazards.shape == (4, 3)
    assert ((together.hazards > 0) & (together.hazards < 1)).all()


@pytest.mark.parametrize("name", [name for name, _ in networks()])
def test_every_parameter_learns(name):
    torch.manual_seed(0)
    network = dict(networks())[name].train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    genomics, bags = torch.randn(6, 6), torch.randn(6, 9, 5)
    time, event = torch.arange(6.0), torch.tensor([1.0, 1, 0, 1, 1, 1])
    for _ in range(2):  # the last layer of some starts at zero, so what is before it learns from the second step on
        output = network(genomics, bags)
        loss = cox_loss(output.risk, time, event) + nll_loss(output.hazards, torch.tensor([0, 1, 1, 2, 0, 2]), event)
        (loss + sum(output.losses.values())).backward()
        missing = [path for path, one in network.named_parameters() if one.grad is None]
        optimizer.step()
    assert missing == []


def test_alignment_draws_the_translated_side_alone():
    torch.manual_seed(0)
    network = dict(networks())["cmta"].eval()
    genomics, bags = torch.randn(2, 6), torch.randn(2, 9, 5)
    network(genomics, bags).losses["alignment"].backward()
    found = [None if one.grad is None else one.grad.clone() for one in network.parameters()]
    network.zero_grad()
    seen = network.translate(genomics, bags)
    loss = (seen.slide.detach() - seen.slide_translated).abs().mean()
    (loss + (seen.genome.detach() - seen.genome_translated).abs().mean()).backward()
    for (path, one), before in zip(network.named_parameters(), found, strict=True):
        assert (one.grad is None) == (before is None), path
        assert before is None or torch.allclose(one.grad, before, atol=1e-6), path
    assert network.decode_bag.norm.weight.grad.any()


def test_hazards_of_a_proportional_head_pull_at_the_baseline_alone():
    head = ProportionalHead([0.1, 0.5])
    logits = torch.zeros(3, 1, requires_grad=True)
    hazards, risk = head(logits)
    hazards.sum().backward()
    assert logits.grad is None or not logits.grad.any()
    assert head.baseline.grad.abs().min() > 0
    logits.grad = None
    risk.sum().backward()
    assert logits.grad.any()


def test_a_proportional_head_is_proportional():
    head = ProportionalHead([0.1, 0.3])
    with torch.no_grad():
        hazards, _ = head(torch.tensor([[0.0], [math.log(2)]]))
    # twice the hazard: the same intervals are survived as often as twice in a row
    torch.testing.assert_close(1 - hazards[1], (1 - hazards[0]) ** 2)


def test_an_untrained_network_foretells_what_is_usual():
    baseline = [0.2, 0.3, 0.4]
    for head in (DiscreteHead(3, baseline), ProportionalHead(baseline)):
        hazards = GenomicNetwork(4, head, widths=(8,)).eval()(torch.randn(2, 4)).hazards
        np.testing.assert_allclose(hazards.detach(), [baseline] * 2, rtol=1e-5)


def test_missing_features_count_as_usual_and_extreme_ones_are_clipped():
    scaling = FeatureScaling(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0]), clip=3.0)
    assert scaling(torch.tensor([[float("nan"), 4.0], [5.0, 1e9]])).tolist() == [[0.0, 2.0], [2.0, 3.0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": []}, r"groups of \[\] features"),
        ({"groups": [[0], []]}, r"groups of \[1, 0\] features"),
        ({"bag_widths": (8,)}, r"bag_widths \(8,\) should end in dim 16"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    arguments = {"groups": [[0]], "dim": 16, "bag_widths": (16,), "group_widths": (16,), **arguments}
    with pytest.raises(ValueError, match=message):
        TranslationNetwork(arguments.pop("groups"), 5, DiscreteHead(2), **arguments)


def test_a_missing_modality_is_named():
    network = dict(networks())["cmta"]
    with pytest.raises(ValueError, match="there are no slides"):
        network(torch.zeros(1, 6))
    with pytest.raises(ValueError, match="looks at genomics, and there are none"):
        dict(networks())["snn"](None)
