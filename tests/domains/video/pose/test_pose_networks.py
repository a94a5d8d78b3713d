"""DSTA against its published outputs and against loops written out; groups from names; losses by hand."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from domains.video.pose.dsta import SpaceTimeAggregation
from domains.video.pose.flow import ResidualFlow
from domains.video.pose.groups import POSETRACK_GROUPS, POSETRACK_ORDER, groups_by_name, groups_of
from domains.video.pose.loss import absolute_loss, looking_loss, residual_likelihood_loss
from domains.video.pose.network import PlainPose, SpaceTimePose
from domains.video.pose.tokens import LookedTokens, NormedLinear, PooledTokens, cell_centres, cells_around
from domains.video.skeletons.joints import joint_set
from pipelines.fixtures import golden_root


def test_the_published_network_and_loss_are_met():
    from shared_attention.parity import verify
    from shared_attention.published import register_adapters

    golden = golden_root()
    if golden is None or not (golden / "dsta").is_dir():
        pytest.skip("the reference outputs are not here (PULVINAR_GOLDEN)")
    register_adapters("domains.video.pose.adapters")
    verdicts = verify(golden, ["dsta", "dsta_rle"])
    assert [verdict.status for verdict in verdicts] == ["equal", "equal"]


def plain_block(block, x):
    """A pre-norm transformer block on `(N, D)`, head by head."""
    mixer, normed = block.mixer, block.norm1(x)
    q, (k, v) = mixer.q(normed), mixer.kv(normed).chunk(2, -1)
    width = q.shape[-1] // mixer.heads
    heads = []
    for head in range(mixer.heads):
        part = slice(head * width, (head + 1) * width)
        heads.append((q[:, part] @ k[:, part].T / math.sqrt(width)).softmax(-1) @ v[:, part])
    x = x + mixer.proj(torch.cat(heads, -1))
    return x + block.feed_forward(block.norm2(x))


def plain_aggregation(network, tokens, groups, order):
    """One clip, one group, one joint at a time."""
    out = []
    for clip in tokens:  # (T, K, D)
        key = clip.shape[0] // 2
        space = clip[key].clone()
        for group in groups:
            x = torch.stack([clip[key, token] + network.space_place[at] for at, token in enumerate(group)])
            for block in network.space:
                x = plain_block(block, x)
            for at, token in enumerate(group):
                space[token] = network.space_norm(x[at])
        time = []
        for token in range(clip.shape[1]):
            x = clip[:, token] + network.time_place
            for block in network.time:
                x = plain_block(block, x)
            time.append(network.time_norm(x[key]))
        (first, second), bias = network.mix.weight[0], network.mix.bias
        mixed = [first * one + second * other + bias for one, other in zip(time, space, strict=True)]
        out.append(torch.stack([mixed[token] for token in order]))
    return torch.stack(out)


@pytest.mark.parametrize(
    ("tokens", "frames", "groups", "order"),
    [
        pytest.param(17, 3, POSETRACK_GROUPS, POSETRACK_ORDER, id="as released"),
        pytest.param(14, 1, groups_of(joint_set("lsp14")), range(14), id="one frame, limbs and a head of two"),
        pytest.param(5, 5, ((3, 0), (4,)), (4, 0, 0, 2), id="five frames, groups out of order, one token passes by"),
        pytest.param(4, 3, (), range(4), id="no group: space changes nothing"),
    ],
)
def test_aggregation_is_what_loops_make_of_it(tokens, frames, groups, order):
    torch.manual_seed(0)
    network = SpaceTimeAggregation(tokens, 16, frames=frames, groups=groups, order=order, depth=2, heads=4).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(3, frames, tokens, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(x), plain_aggregation(network, x, groups, list(order)), rtol=1e-4, atol=1e-5)


def test_a_limb_sees_nothing_of_another():
    torch.manual_seed(0)
    network = SpaceTimeAggregation(5, 8, frames=1, groups=((0, 1), (2, 3, 4)), order=range(5), depth=1, heads=2).eval()
    x = torch.randn(1, 1, 5, 8)
    changed = x.clone()
    changed[0, 0, 4, 0] += 1
    with torch.no_grad():
        apart = (network.over_space(x[:, 0]) - network.over_space(changed[:, 0])).abs().amax((0, 2))
    assert (apart[:2] < 1e-6).all()
    assert (apart[2:] > 1e-3).all()


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="a clip of 2 frames has no middle one"):
        SpaceTimeAggregation(3, 8, frames=2, groups=(), order=range(3))
    with pytest.raises(ValueError, match="stands in two groups"):
        SpaceTimeAggregation(3, 8, frames=1, groups=((0, 1), (1, 2)), order=range(3))
    with pytest.raises(ValueError, match="there is no joint token 3; there are 0 to 2"):
        SpaceTimeAggregation(3, 8, frames=1, groups=(), order=(0, 3))
    with pytest.raises(ValueError, match="3 frames of 4 joint tokens; the network takes 1 frames of 3"):
        SpaceTimeAggregation(3, 8, frames=1, groups=(), order=range(3))(torch.zeros(1, 3, 4, 8))


def test_limbs_are_made_from_names():
    lsp = joint_set("lsp14")
    named = [{lsp.joints[place] for place in group} for group in groups_of(lsp)]
    assert {"neck", "head_top"} in named
    assert {"left_shoulder", "left_elbow", "left_wrist"} in named
    assert len(named) == 5
    for name in ("coco17", "jhmdb15", "ntu25", "posetrack17"):
        joints = joint_set(name)
        assert sorted(place for group in groups_of(joints) for place in group) == list(range(len(joints)))
        assert len(groups_of(joints)) == 5
    assert groups_by_name(lsp, [["neck", "head_top"], ["left_knee"]]) == ((12, 13), (4,))
    with pytest.raises(ValueError, match="lsp14 has no joint tail; it has right_ankle"):
        groups_by_name(lsp, [["tail"]])


def small(frames=1, *, looking=False):
    torch.manual_seed(0)
    aggregation = SpaceTimeAggregation(4, 16, frames=frames, groups=((0, 1, 2, 3),), order=range(4), depth=1, heads=2)
    return SpaceTimePose(nn.Conv2d(3, 6, 4, 4), 6, aggregation, dim=16, looking=looking)


@pytest.mark.parametrize("looking", [False, True])
def test_every_weight_is_learned_and_the_loss_falls(looking):
    network = small(3, looking=looking)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    frames, target = torch.randn(4, 3, 3, 16, 16), torch.rand(4, 4, 2)
    losses = []
    for _ in range(20):
        output = network(frames)
        loss = residual_likelihood_loss(output.coordinates, output.sigma, target, torch.ones(4, 4, 2), network.flow)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert losses[-1] < losses[0] - 5
    assert output.score.shape == (4, 4)
    assert 0 < float(output.score.min().detach()) < 1


def test_the_plain_head_starts_in_the_middle_and_needs_the_key_frame_alone():
    network = PlainPose(nn.Conv2d(3, 6, 4, 4), 6, 5, frames=3)
    clip = torch.randn(2, 3, 3, 16, 16)
    output = network(clip)
    assert (output.coordinates == 0.5).all()
    assert output.sigma is None
    assert output.score is None
    nn.init.normal_(network.coordinates.weight)
    clip_2 = clip.clone()
    clip_2[:, [0, 2]] = 0
    assert torch.equal(network(clip).coordinates, network(clip_2).coordinates)
    with pytest.raises(ValueError, match=r"allowed are \(B, 3, 3, H, W\)"):
        network(clip[:, :1])


def test_tokens_that_look_know_where():
    looked = LookedTokens(6, 2, 8)
    with torch.no_grad():
        looked.keys.weight.zero_()
        looked.keys.bias.zero_()
    seen = looked(torch.randn(1, 6, 4, 6))
    torch.testing.assert_close(seen.places, torch.full((1, 2, 2), 0.5))
    assert seen.looks.shape == (1, 2, 4, 6)
    assert cell_centres(2, 4)[5].tolist() == [0.375, 0.75]
    pooled = PooledTokens(6, 2, 8)(torch.randn(3, 6, 4, 6))
    assert pooled.tokens.shape == (3, 2, 8)
    assert (pooled.places == 0).all()
    assert pooled.looks is None


def test_a_served_token_does_not_lie_between_two_places_it_hesitates_between():
    everywhere, nearby = (LookedTokens(6, 1, 8, width=1, reach=reach).eval() for reach in (None, 1))
    with torch.no_grad():
        for tokens in (everywhere, nearby):
            tokens.queries.fill_(1)
            tokens.keys.weight.copy_(torch.tensor([[20.0, 0, 0, 0, 0, 0]]))
            tokens.keys.bias.zero_()
        maps = torch.zeros(1, 6, 3, 9)
        maps[0, 1:] = torch.randn(5, 3, 9, generator=torch.Generator().manual_seed(0))
        maps[0, 0, 1, 1], maps[0, 0, 1, 7] = 9.1, 9.0  # nearly as good a place on the right
        between, near = everywhere(maps), nearby(maps)
    assert 0.3 < float(between.places[0, 0, 0]) < 0.7
    torch.testing.assert_close(near.places[0, 0], torch.tensor([1.5 / 9, 0.5]), atol=0.02, rtol=0)
    torch.testing.assert_close(near.tokens[0, 0], nearby.train()(maps).tokens[0, 0])
    grid = cells_around(torch.tensor([0, 13]), 3, 9, 1).unflatten(-1, (3, 9))
    assert grid[0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert int(grid[1].sum()) == 9


def test_the_normed_layer_forgets_how_bright_a_picture_is():
    layer, x = NormedLinear(7, 3), torch.randn(2, 7)
    torch.testing.assert_close(layer(x), layer(5 * x))
    torch.testing.assert_close(layer(x)[0], layer.linear.weight @ x[0] / x[0].norm() + layer.linear.bias)
    assert torch.isfinite(layer(torch.zeros(1, 7))).all()


@pytest.mark.parametrize("mean", [0.0, 0.5])
def test_the_density_of_the_flow_is_one_over_the_plane(mean):
    torch.manual_seed(0)
    flow = ResidualFlow(prior_mean=mean)
    axis = torch.linspace(-8, 8, 121)
    plane = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        total = flow.log_density(plane).exp().sum() * (axis[1] - axis[0]) ** 2
        assert float(total) == pytest.approx(1, abs=0.01)
        z, determinant = flow.to_normal(plane[:50])
        prior = MultivariateNormal(torch.full((2,), mean), torch.eye(2))
        torch.testing.assert_close(flow.log_density(plane[:50]), prior.log_prob(z) + determinant)
    exact = torch.autograd.functional.jacobian(lambda x: flow.to_normal(x)[0].sum(0), plane[:1])[:, 0]
    torch.testing.assert_close(torch.linalg.slogdet(exact)[1], determinant[0], rtol=1e-4, atol=1e-5)


def test_how_far_residuals_lie_is_told_by_flow_and_laplace_together():
    flow = ResidualFlow()
    with torch.no_grad():
        for part in (*flow.scales, *flow.shifts):
            part[-2 if isinstance(part[-1], nn.Tanh) else -1].weight.zero_()
            part[-2 if isinstance(part[-1], nn.Tanh) else -1].bias.zero_()
    # The density is normal now; times exp(-|x| / √2), an axis has this mean square.
    x = torch.linspace(-10, 10, 20001, dtype=torch.float64)
    mass = torch.exp(-x.square() / 2 - x.abs() / math.sqrt(2))
    assert flow.spread() == pytest.approx(math.sqrt(float((x.square() * mass).sum() / mass.sum())), rel=1e-3)
    with torch.no_grad():
        for scale in flow.scales:  # each of three couplings shrinks an axis by e: x = z e^-3
            scale[-2].bias.fill_(-20.0)
    narrow = flow.spread()
    assert narrow == pytest.approx(math.exp(-3), rel=0.05)


def test_the_likelihood_loss_written_out():
    torch.manual_seed(0)
    flow = ResidualFlow(prior_mean=0.5)
    coordinates, target = torch.rand(2, 3, 2), torch.rand(2, 3, 2)
    sigma = torch.rand(2, 3, 2) * 0.5 + 0.1
    weight = torch.ones(2, 3, 2)
    weight[1, 2] = 0
    total = 0.0
    for clip in range(2):
        for joint in range(3):
            if not weight[clip, joint, 0]:
                continue
            mu, t, s = coordinates[clip, joint], target[clip, joint], sigma[clip, joint]
            log_phi = float(flow.log_density(((mu - t) / s)[None]).detach())
            for axis in range(2):
                total += math.log(s[axis]) - log_phi
                total += math.log(s[axis] * math.sqrt(2 * math.pi)) + abs(t[axis] - mu[axis]) / (math.sqrt(2) * s[axis])
    ours = residual_likelihood_loss(coordinates, sigma, target, weight, flow).detach()
    assert float(ours) == pytest.approx(float(total) / 2, rel=1e-5)
    hidden = target.clone()
    hidden[1, 2] = 77.0
    again = residual_likelihood_loss(coordinates, sigma, hidden, weight, flow).detach()
    assert float(again) == pytest.approx(float(ours))


def test_the_absolute_loss_passes_over_what_was_not_labelled():
    coordinates = torch.tensor([[[0.5, 0.5], [0.0, 9.0]]])
    target = torch.tensor([[[0.25, 1.0], [0.0, 0.0]]])
    weight = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    assert float(absolute_loss(coordinates, target, weight)) == pytest.approx(0.375)
    assert float(absolute_loss(coordinates, target, weight * 0)) == 0


def test_the_looking_loss_written_out():
    generator = torch.Generator().manual_seed(0)
    looks = torch.randn(2, 3, 2, 4, generator=generator)
    target, weight = torch.rand(2, 3, 2, generator=generator), torch.ones(2, 3, 2)
    weight[1, 2] = 0
    expected = 0.0
    for picture, joint in itertools.product(range(2), range(3)):
        cells = list(itertools.product(range(2), range(4)))
        x, y = (float(value) for value in target[picture, joint])
        near = [
            math.exp(-((column + 0.5 - 4 * x) ** 2 + (row + 0.5 - 2 * y) ** 2) / (2 * 0.6**2)) for row, column in cells
        ]
        looked = [math.exp(float(looks[picture, joint, row, column])) for row, column in cells]
        wanted = [value / sum(near) for value in near]
        seen = [value / sum(looked) for value in looked]
        apart = sum(p * math.log(p / q) for p, q in zip(wanted, seen, strict=True))
        expected += apart * float(weight[picture, joint, 0])
    assert float(looking_loss(looks, target, weight, spread=0.6)) == pytest.approx(expected / 2, rel=1e-4)


def test_a_token_learns_to_look_at_its_joint_from_the_looking_loss_alone():
    torch.manual_seed(0)
    tokens = LookedTokens(8, 2, 4).train()
    maps = torch.randn(6, 8, 4, 6)
    maps[torch.arange(6), 0, [0, 1, 2, 3, 0, 1], [0, 1, 2, 3, 4, 5]] += 12  # a mark, wherever the joints are
    row, column = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([0, 1, 2, 3, 4, 5])
    target = torch.stack([(column + 0.5) / 6, (row + 0.5) / 4], -1)[:, None].expand(-1, 2, -1)
    optimizer = torch.optim.Adam(tokens.parameters(), 0.02)
    for _ in range(200):
        optimizer.zero_grad()
        looking_loss(tokens(maps).looks, target, torch.ones(6, 2, 2), spread=0.3).backward()
        optimizer.step()
    cell = tokens(maps).looks.flatten(2).argmax(-1)  # (6, 2)
    assert (cell == (6 * row + column)[:, None]).all()
    assert tokens.eval()(maps).looks is None  # nobody learns from it then
