"""Networks: the transformer with its branches, the CNN, and weights from files."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from domains.reid.models.backbones import ConvolutionalFeatures, TransformerFeatures
from domains.reid.models.conditional import ConditionalTransformer
from domains.reid.models.dcal import DualCrossAttention, pair_up, roll_out, self_attention, with_pairs
from domains.reid.models.embedder import Embedder
from domains.reid.models.looking import looked_at
from domains.reid.models.pooling import GeneralisedMean
from domains.reid.models.vit import VisionTransformer, blocks_of
from domains.reid.models.weights import load_official_vit, read_state
from pipelines.encoders.efficientnet import EfficientNetLite0
from pipelines.errors import DataError
from pipelines.fixtures import golden_root
from shared_attention import build

SIZE = (32, 16)


def small_vit(**changes) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(SIZE, **{"patch": 8, "dim": 16, "depth": 3, "heads": 2, **changes}).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def test_overlapping_patches_and_their_grid(images):
    vit = small_vit(stride=4)
    assert vit.grid == (7, 3)
    assert vit(images).shape == (4, 22, 16)
    with pytest.raises(ValueError, match=r"\(16, 32\) pixels; the network is for \(32, 16\)"):
        vit(images.transpose(2, 3))
    with pytest.raises(ValueError, match="leaves no patch"):
        small_vit(patch=64)


def test_the_unknown_camera_is_learned_and_what_no_camera_gives(images):
    vit = small_vit(sides=2)
    unknown, first = (vit(images, torch.full((4,), side)) for side in (0, 1))
    assert torch.equal(vit(images), unknown)
    assert not torch.allclose(unknown, first)
    vit.train()
    vit.side_dropout = 1.0
    assert torch.equal(vit(images, torch.ones(4, dtype=torch.long)), unknown)
    vit(images, torch.ones(4, dtype=torch.long)).sum().backward()
    assert vit.side.weight.grad[0].abs().sum() > 0


def test_another_mechanism_works_on_the_grid(images):
    vit = small_vit(mixer=lambda dim: build("window", dim, rank=2, window=2))
    tokens = vit(images)
    assert tokens.shape == (4, 4, 2, 16)
    assert vit.pooled(tokens).shape == (4, 16)
    with pytest.raises(ValueError, match="DCAL needs a class token"):
        DualCrossAttention(vit, heads=2)


def slow_roll_out(maps: list[torch.Tensor]) -> torch.Tensor:
    whole = torch.eye(maps[0].shape[-1])
    for attention in maps:
        whole = (0.5 * attention + 0.5 * torch.eye(attention.shape[-1])) @ whole
    return whole[:, 0, 1:]


def test_roll_out_is_the_product_of_all_layers(images):
    vit = small_vit()
    tokens, maps = self_attention(blocks_of(vit), vit.tokens(images))
    torch.testing.assert_close(tokens, vit(images), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(roll_out(maps), slow_roll_out(maps))
    assert all(torch.allclose(one.sum(-1), torch.ones(4, 9)) for one in maps)


def test_one_softmax_over_an_image_and_its_pair(images):
    vit = small_vit(depth=1)
    (block,) = blocks_of(vit)
    x = vit.tokens(images)
    pair = torch.tensor([1, 0, 3, 2])
    ours = with_pairs([block], x, pair)
    mixer, normed = block.mixer, block.norm1(x)
    for one, other in enumerate(pair.tolist()):
        keys, values = mixer.kv(torch.cat([normed[one], normed[other]])).chunk(2, -1)
        heads = []
        for head in range(2):
            part = slice(8 * head, 8 * head + 8)
            weights = (mixer.q(normed[one])[:, part] @ keys[:, part].T / math.sqrt(8)).softmax(-1)
            assert weights.shape == (9, 18)
            heads.append(weights @ values[:, part])
        mixed = x[one] + mixer.proj(torch.cat(heads, -1))
        wanted = mixed + block.feed_forward(block.norm2(mixed))
        torch.testing.assert_close(ours[one], wanted, rtol=1e-4, atol=1e-5)


def test_the_pair_branch_is_gone_at_inference_and_adds_no_parameter(images):
    plain, paired = (DualCrossAttention(small_vit(), heads=2, pairs=pairs) for pairs in (False, True))
    assert {name for name, _ in plain.named_parameters()} == {name for name, _ in paired.named_parameters()}
    paired.load_state_dict(plain.state_dict())
    assert set(plain.train()(images)) == {"global", "local"}
    assert set(paired.train()(images)) == {"global", "local", "pair"}
    first, second = plain.eval()(images), paired.eval()(images)
    assert set(second) == {"global", "local"}
    for name in first:
        assert torch.equal(first[name], second[name])
    torch.testing.assert_close(first["global"], TransformerFeatures(plain.vit)(images)["global"], rtol=1e-5, atol=1e-5)


def test_the_class_token_of_the_local_branch_is_the_same_whichever_patches_are_chosen(images):
    network = DualCrossAttention(small_vit(), heads=2, ratio=0.5, pairs=False).eval()
    tokens, maps = self_attention(blocks_of(network.vit), network.vit.tokens(images))
    chosen = network.local.select(roll_out(maps))
    others = torch.tensor([[0, *sorted(set(range(1, 9)) - set(row[1:].tolist()))] for row in chosen])
    for selection in (chosen, others):
        whole = network.local_norm(network.local(tokens, selection)[:, 0])
        torch.testing.assert_close(network(images)["local"], whole, rtol=1e-5, atol=1e-5)


def test_the_mean_of_chosen_patches_depends_on_the_roll_out(images):
    network = DualCrossAttention(small_vit(), heads=2, ratio=0.5, pairs=False, summary="patches").eval()
    tokens, maps = self_attention(blocks_of(network.vit), network.vit.tokens(images))
    chosen = network.local.select(roll_out(maps))
    whole = network.local_norm(network.local(tokens, chosen)[:, 1:].mean(1))
    torch.testing.assert_close(network(images)["local"], whole, rtol=1e-5, atol=1e-5)
    every = network.local(tokens, torch.arange(9).expand(4, -1))[:, 1:].mean(1)
    assert not torch.allclose(whole, network.local_norm(every), atol=1e-3)
    with pytest.raises(ValueError, match="summary 'mean' is not one of class, patches"):
        DualCrossAttention(small_vit(), heads=2, summary="mean")


@pytest.mark.parametrize(("heads", "depth", "ratio"), [(2, 3, 0.3), (4, 5, 0.1), (1, 1, 1.0), (8, 2, 0.01)])
def test_selected_tokens_look_at_all_of_them(heads, depth, ratio):
    """GLCA written out: projections, one softmax over all tokens for each selected query, residual, feed-forward."""
    torch.manual_seed(depth)
    vit = small_vit(depth=depth, heads=heads, stride=4)
    network = DualCrossAttention(vit, heads=heads, ratio=ratio).eval()
    images = torch.randn(2, 3, *SIZE)
    tokens, maps = self_attention(blocks_of(vit), vit.tokens(images))
    heeded = slow_roll_out(maps)
    chosen = network.local.select(heeded)
    count = max(1, int(ratio * 21))
    assert chosen.shape == (2, 1 + count)
    ours = network.local(tokens, chosen)
    block, each = network.local.block, 16 // heads
    for image in range(2):
        best = sorted(range(21), key=lambda patch: -float(heeded[image, patch]))[:count]
        assert set(chosen[image].tolist()) == {0, *(patch + 1 for patch in best)}
        normed = block.norm1(tokens[image])
        keys, values = block.mixer.kv(normed).chunk(2, -1)
        for place, token in enumerate(chosen[image].tolist()):
            query, parts = block.mixer.q(normed[token]), []
            for head in range(heads):
                part = slice(each * head, each * (head + 1))
                scores = torch.stack([(query[part] * key[part]).sum() / math.sqrt(each) for key in keys])
                parts.append(scores.softmax(0) @ values[:, part])
            mixed = tokens[image, token] + block.mixer.proj(torch.cat(parts))
            wanted = mixed + block.feed_forward(block.norm2(mixed))
            torch.testing.assert_close(ours[image, place], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 9, 32])
def test_nobody_is_paired_with_itself(count):
    for seed in range(5):
        torch.manual_seed(seed)
        pair = pair_up(count)
        assert sorted(pair.tolist()) == list(range(count))
        assert all(other != one for one, other in enumerate(pair.tolist()))
        assert sum(pair[other] != one for one, other in enumerate(pair.tolist())) == (3 if count % 2 else 0)


def test_the_reference_of_the_equations_is_met():
    from shared_attention.parity import verify
    from shared_attention.published import register_adapters

    golden = golden_root()
    if golden is None or not (golden / "dcal_own_reference").is_dir():
        pytest.skip("the reference outputs are not here (PULVINAR_GOLDEN)")
    register_adapters("domains.reid.adapters")
    assert [verdict.status for verdict in verify(golden, ["dcal_own_reference"])] == ["equal"]


def test_each_attribute_has_an_embedding_of_its_own(images):
    for fusion in ("condition", "token"):
        network = ConditionalTransformer(small_vit(), attributes=3, heads=2, fusion=fusion).eval()
        out = network(images)
        assert out.shape == (4, 3, 16)
        assert not torch.allclose(out[:, 0], out[:, 1])
        # An attribute is a query: asked alone, it gets the same answer.
        alone = ConditionalTransformer(small_vit(), attributes=1, heads=2, fusion=fusion).eval()
        state = network.state_dict()
        state["conditional.condition.weight"] = state["conditional.condition.weight"][1:2]
        alone.load_state_dict(state)
        torch.testing.assert_close(alone(images)[:, 0], out[:, 1], rtol=1e-4, atol=1e-5)


def test_a_condition_added_to_every_token_gives_the_same_class_token(images):
    network = ConditionalTransformer(small_vit(), attributes=2, heads=2, fusion="token").eval()
    conditional, vit = network.conditional, network.vit
    tokens = vit.tokens(images)
    for block in vit.blocks:
        tokens = block(tokens)
    block = conditional.block
    normed = block.norm1(tokens)
    for attribute, condition in enumerate(conditional.condition.weight):
        x = tokens + block.mixer(normed + condition, normed)  # a query of each token
        whole = vit.norm(x + block.feed_forward(block.norm2(x)))[:, 0]
        torch.testing.assert_close(network(images)[:, attribute], whole, rtol=1e-4, atol=1e-5)


class OfficialAttention(nn.Module):
    """As timm writes it."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1) @ v
        return self.proj(out.transpose(1, 2).flatten(2))


class OfficialViT(nn.Module):
    """A ViT with the names of timm, for a square image."""

    def __init__(self, side: int, patch: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, (side // patch) ** 2 + 1, dim))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, patch, patch)})
        self.blocks = nn.ModuleList()
        for _ in range(depth):
            mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})
            parts = {"norm1": nn.LayerNorm(dim, 1e-6), "norm2": nn.LayerNorm(dim, 1e-6), "mlp": mlp}
            self.blocks.append(nn.ModuleDict({**parts, "attn": OfficialAttention(dim, heads)}))
        self.norm, self.head = nn.LayerNorm(dim, 1e-6), nn.Linear(dim, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed["proj"](image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            x = x + block["attn"](block["norm1"](x))
            x = x + block["mlp"]["fc2"](functional.gelu(block["mlp"]["fc1"](block["norm2"](x))))
        return self.norm(x)[:, 0]


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_official_weights_give_the_official_output(tmp_path, ending):
    from safetensors.torch import save_file

    torch.manual_seed(2)
    official = OfficialViT(32, 8, 16, 3, 2).eval()
    path = tmp_path / f"deit{ending}"
    if ending == ".pth":
        torch.save({"model": official.state_dict()}, path)
    else:
        save_file(official.state_dict(), path)
    ours = VisionTransformer((32, 32), patch=8, dim=16, depth=3, heads=2).eval()
    assert load_official_vit(ours, read_state(path)) == []
    image = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours.pooled(ours(image)), official(image), rtol=1e-4, atol=1e-5)
    narrow = small_vit(sides=3)
    assert load_official_vit(narrow, read_state(path)) == ["side.weight"]
    with pytest.raises(DataError, match=r"does not fit this network: .*\(16, 3, 8, 8\)"):
        load_official_vit(VisionTransformer((32, 32), patch=4, dim=16, depth=3, heads=2), read_state(path))
    with pytest.raises(DataError, match=r"blocks\.3\..* is not in the file"):
        load_official_vit(small_vit(depth=4), read_state(path))


def of_google(state: dict[str, torch.Tensor], heads: int) -> dict[str, np.ndarray]:
    """A timm state dict as the authors of ViT hand theirs out: JAX names, outputs last, heads apart."""
    found = {"cls": state["cls_token"], "Transformer/posembed_input/pos_embedding": state["pos_embed"]}
    found["embedding/kernel"] = state["patch_embed.proj.weight"].permute(2, 3, 1, 0)
    found |= {"embedding/bias": state["patch_embed.proj.bias"], "head/kernel": state["head.weight"].T}
    found |= {f"Transformer/encoder_norm/{leaf}": state[f"norm.{ours}"] for leaf, ours in LEAVES.items()}
    for number in range(3):
        theirs, ours = f"Transformer/encoderblock_{number}", f"blocks.{number}"
        for norm, name in (("LayerNorm_0", "norm1"), ("LayerNorm_2", "norm2")):
            found |= {f"{theirs}/{norm}/{leaf}": state[f"{ours}.{name}.{kind}"] for leaf, kind in LEAVES.items()}
        for dense, name in (("Dense_0", "fc1"), ("Dense_1", "fc2")):
            found[f"{theirs}/MlpBlock_3/{dense}/kernel"] = state[f"{ours}.mlp.{name}.weight"].T
            found[f"{theirs}/MlpBlock_3/{dense}/bias"] = state[f"{ours}.mlp.{name}.bias"]
        attention = f"{theirs}/MultiHeadDotProductAttention_1"
        weights, biases = (state[f"{ours}.attn.qkv.{kind}"].chunk(3) for kind in ("weight", "bias"))
        for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            found[f"{attention}/{part}/kernel"] = weight.T.unflatten(1, (heads, -1))
            found[f"{attention}/{part}/bias"] = bias.unflatten(0, (heads, -1))
        found[f"{attention}/out/kernel"] = state[f"{ours}.attn.proj.weight"].T.unflatten(0, (heads, -1))
        found[f"{attention}/out/bias"] = state[f"{ours}.attn.proj.bias"]
    return {name: value.numpy() for name, value in found.items()}


LEAVES = {"scale": "weight", "bias": "bias"}


def test_the_files_of_google_give_the_official_output(tmp_path):
    torch.manual_seed(2)
    official = OfficialViT(32, 8, 16, 3, 2).eval()
    np.savez(tmp_path / "B_16.npz", **of_google(official.state_dict(), 2))
    ours = VisionTransformer((32, 32), patch=8, dim=16, depth=3, heads=2).eval()
    assert load_official_vit(ours, read_state(tmp_path / "B_16.npz")) == []
    image = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours.pooled(ours(image)), official(image), rtol=1e-4, atol=1e-5)
    np.savez(tmp_path / "objects.npz", cls=np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"objects\.npz cannot be read as weights"):
        read_state(tmp_path / "objects.npz")


def test_official_weights_come_distilled_wrapped_halved_or_for_the_grid_at_hand(tmp_path):
    torch.manual_seed(2)
    state = OfficialViT(32, 8, 16, 3, 2).state_dict()
    path = tmp_path / "weights.pth"

    def loaded(given, **changes):
        torch.save(given, path)
        vit = small_vit(**changes)
        load_official_vit(vit, read_state(path))
        return vit.state_dict()

    plain = loaded(state)
    special = torch.cat([state["pos_embed"][:, :1], torch.randn(1, 1, 16), state["pos_embed"][:, 1:]], 1)
    distilled = {**state, "pos_embed": special, "dist_token": torch.randn(1, 1, 16), "head_dist.bias": torch.zeros(10)}
    without_head = {name: value for name, value in state.items() if not name.startswith("head.")}
    for given in (distilled, {f"module.{name}": value for name, value in state.items()}, without_head):
        found = loaded({"model": given, "epoch": 299})
        assert all(torch.equal(found[name], value) for name, value in plain.items())
    halved = loaded({name: value.half() for name, value in state.items()})
    torch.testing.assert_close(halved, plain, rtol=1e-3, atol=1e-3)
    # 7 x 3 overlapping patches of this very network, as a re-identification network saves them.
    own = torch.randn(1, 22, 16)
    assert torch.equal(loaded({**state, "pos_embed": own}, stride=4)["position"], own)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pos_embed": torch.zeros(1, 22, 16)}, r"position embeddings \(1, 22, 16\) are neither"),
        ({"pos_embed": torch.zeros(17, 16)}, "are neither"),
        ({"blocks.0.ls1.gamma": torch.ones(16)}, r"the first: blocks\.0\.ls1\.gamma"),
        ({"norm.weight": torch.full((16,), torch.nan)}, "norm.weight holds no finite real numbers"),
        ({"cls_token": torch.zeros(1, 1, 16, dtype=torch.int8)}, "cls_token holds no finite real numbers"),
    ],
)
def test_weights_of_something_else_are_refused(change, message):
    state = OfficialViT(32, 8, 16, 3, 2).state_dict()
    with pytest.raises(DataError, match=message):
        load_official_vit(small_vit(), {**state, **change}, source="weights.pth")


def test_a_file_with_anything_but_tensors_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"a": 1}, path)
    with pytest.raises(DataError, match="does not hold weights by name"):
        read_state(path)
    path.write_bytes(b"no weights")
    with pytest.raises(DataError, match="cannot be read as weights"):
        read_state(path)


def test_a_light_gate_starts_as_the_identity(images):
    from domains.reid.models.backbones import GateInMap

    torch.manual_seed(0)
    plain = EfficientNetLite0().eval()
    gated = EfficientNetLite0(gate=lambda c: GateInMap(build("light", c, rank=2)), gate_stages=(5, 6)).eval()
    missing, _ = gated.load_state_dict(plain.state_dict(), strict=False)
    assert {name.split(".")[1] for name in missing} == {"5", "6"}
    with torch.no_grad():
        torch.testing.assert_close(gated(images), plain(images))


def test_the_generalised_mean_lies_between_mean_and_maximum():
    x = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(GeneralisedMean(1.0)(x), x.mean((2, 3)))
    torch.testing.assert_close(GeneralisedMean(200.0)(x), x.amax((2, 3)), rtol=0.03, atol=0)


def test_embeddings_have_length_one_and_branches_add_their_probabilities(images):
    torch.manual_seed(0)
    network = Embedder(
        DualCrossAttention(small_vit(), heads=2), 16, 5, branches=("global", "local"), pairs=True, centres=True
    )
    assert set(network.train()(images, labels=torch.tensor([0, 1, 2, 3]))) == {"global", "local", "pair"}
    out = network.eval()(images)
    assert out.embedding.shape == (4, 32)
    torch.testing.assert_close(out.embedding.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(out.logits.exp().sum(1), torch.ones(4))


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_where_a_network_looked_is_a_map_of_its_places(images, kind):
    backbone = TransformerFeatures(small_vit()) if kind == "vit" else ConvolutionalFeatures(EfficientNetLite0())
    network = Embedder(backbone, 16 if kind == "vit" else 1280, 5, neck=False).eval()
    heeded = looked_at(network, images[:1], 2)
    assert heeded.shape == ((4, 2) if kind == "vit" else (1, 1))
    assert 0 <= heeded.min() <= heeded.max() <= 1


@pytest.mark.parametrize("compare", ["before", "after"])
def test_distances_are_learned_on_the_feature_that_is_asked_for(compare):
    from domains.reid.losses import circle_loss, identity_loss
    from domains.reid.models.embedder import Branch
    from domains.reid.settings import LossSettings
    from domains.reid.training.objective import branch_losses

    labels = torch.tensor([0, 0, 1, 1])
    branch = Branch(torch.randn(4, 8), torch.randn(4, 8), torch.randn(4, 2))
    network = Embedder(TransformerFeatures(small_vit()), 16, 2)
    settings = LossSettings(triplet=0, circle=2, smoothing=0.1, compare=compare)
    found = branch_losses({"global": branch}, labels, settings, network)
    wanted = identity_loss(branch.logits, labels, smoothing=0.1) + 2 * circle_loss(getattr(branch, compare), labels)
    torch.testing.assert_close(found["loss"], wanted)
