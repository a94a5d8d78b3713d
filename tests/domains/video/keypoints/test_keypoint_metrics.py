"""Keypoint metrics: by hand, against cocoapi's own evaluation, and against PoseTrack's written out slowly."""

import contextlib
import io

import numpy as np
import pytest

from domains.video.keypoints.oks import FoundPerson, TruePerson, evaluate_oks, object_keypoint_similarity
from domains.video.keypoints.pck import check_normaliser, correct, normaliser_sizes, pck_curve, pixel_errors
from domains.video.keypoints.posetrack import HeadedPerson, ScoredPerson, posetrack_precision
from domains.video.skeletons.joints import JointSet, joint_set
from pipelines.errors import ConfigurationError

COCO = joint_set("coco17")


def test_pck_by_hand():
    joints = JointSet("four", ("left_shoulder", "right_hip", "head_top", "neck"))
    truth = np.array([[[0, 0], [30, 40], [0, 10], [0, 0]], [[0, 0], [0, 10], [5, 5], [5, 9]]], float)
    known = np.array([[True, True, True, True], [True, True, False, True]])
    found = truth + np.array([[[3, 4], [0, 10], [0, 10.1], [0, 0]], [[2, 0], [2.1, 0], [99, 0], [np.nan, 0]]])
    errors = pixel_errors(found, truth, known)
    np.testing.assert_allclose(errors[0], [5, 10, 10.1, 0])
    assert np.isnan(errors[1, 2])
    assert errors[1, 3] == np.inf
    torso = normaliser_sizes("torso", joints, truth, known)
    assert torso.tolist() == [50, 10]
    right = correct(errors, torso, 0.2)
    np.testing.assert_array_equal(right, [[1, 1, 0, 1], [1, 0, np.nan, 0]])
    np.testing.assert_allclose(pck_curve(errors, torso, (0.1, 0.2, 0.5)), [2 / 7, 4 / 7, 6 / 7])
    head = normaliser_sizes("head", joints, truth, known)
    assert head[0] == 10
    assert np.isnan(head[1])
    assert normaliser_sizes("head", joints, truth, known, heads=(0, 7)).tolist() == [10, 7]
    assert normaliser_sizes("box", joints, truth, known, boxes=((0, 0, 3, 8), (0, 0, 9, 1))).tolist() == [8, 9]
    assert normaliser_sizes("pixels", joints, truth, known).tolist() == [1, 1]
    assert np.isnan(pck_curve(errors * np.nan, torso, (0.2,))).all()


def test_a_normaliser_that_cannot_be_measured_is_named():
    mouse = JointSet("mouse", ("snout", "tail"))
    with pytest.raises(ConfigurationError, match="mouse has no left_shoulder and right_hip"):
        check_normaliser("torso", mouse)
    for name in ("box", "pixels", "head"):
        check_normaliser(name, mouse)
    check_normaliser("torso", joint_set("lsp14"))


def test_similarity_by_hand_has_doubled_sigmas():
    truth = TruePerson(np.zeros((2, 2)), np.array([True, True]), (0, 0, 10, 10), area=100.0)
    sigma = 0.1
    at_two_sigma = np.array([[2 * sigma * 10, 0], [0, 0]])  # two sigmas of an object of scale √100
    assert object_keypoint_similarity(at_two_sigma, truth, (sigma, sigma)) == pytest.approx((np.exp(-0.5) + 1) / 2)
    half = TruePerson(truth.points, np.array([True, False]), truth.box, truth.area)
    assert object_keypoint_similarity(at_two_sigma, half, (sigma, sigma)) == pytest.approx(np.exp(-0.5))
    # A joint that is not told is as far off as can be, and no part of the area.
    untold = np.array([[0, 0], [np.nan, np.nan]])
    assert object_keypoint_similarity(untold, truth, (sigma, sigma)) == 0.5
    assert FoundPerson(np.array([[0, 0], [np.nan, 3], [4, 5]]), 1.0).area == 20
    # Where no joint is labelled, anything within the box enlarged twofold is as near as can be.
    crowd = TruePerson(truth.points, np.zeros(2, bool), truth.box, truth.area)
    assert object_keypoint_similarity(np.array([[-9, 19], [5, 5]]), crowd, (sigma, sigma)) == 1
    assert object_keypoint_similarity(np.array([[-12, 5], [5, 5]]), crowd, (sigma, sigma)) == pytest.approx(
        (np.exp(-4 / (0.2**2) / 100 / 2) + 1) / 2
    )


def test_precision_by_hand():
    points = np.array([[0.0, 0], [10, 10]])
    truth = TruePerson(points, np.ones(2, bool), (0, 0, 40, 40), 1600.0)
    far = points + 1000
    sigmas = (0.1, 0.1)
    # One right at the second place, of two labelled: precision .5 up to recall .5, which 51 of 101 recalls reach.
    numbers = evaluate_oks([[truth, truth]], [[FoundPerson(far, 0.9), FoundPerson(points, 0.8)]], sigmas)
    assert numbers["AP"] == pytest.approx(0.5 * 51 / 101)
    assert numbers["AR"] == 0.5
    assert np.isnan(numbers["AP_large"])
    # Found persons beyond the limit are not looked at.
    assert evaluate_oks([[truth]], [[FoundPerson(far, 0.9), FoundPerson(points, 0.8)]], sigmas, most=1)["AP"] == 0
    # A crowd takes any number of them, and nobody must find it.
    crowd = TruePerson(points, np.ones(2, bool), (0, 0, 40, 40), 1600.0, crowd=True)
    twice = [FoundPerson(points, 0.9), FoundPerson(points, 0.8)]
    assert np.isnan(evaluate_oks([[crowd]], [twice], sigmas)["AP"])
    assert evaluate_oks([[crowd, truth]], [[*twice, FoundPerson(points, 0.1)]], sigmas)["AP"] == pytest.approx(1)
    assert evaluate_oks([[truth]], [[]], sigmas)["AR"] == 0


def drawn_people(rng, pictures):
    truths, found = [], []
    for _ in range(pictures):
        labelled, seen = [], []
        for number in range(rng.integers(0, 5)):
            box = (*rng.uniform(0, 300, 2), *rng.uniform(10, 200, 2))
            points = np.array(box[:2]) + rng.uniform(0, 1, (17, 2)) * box[2:]
            known = rng.random(17) < (0 if rng.random() < 0.15 else 0.7)
            area = float(box[2] * box[3] * rng.uniform(0.4, 0.9))
            crowd = bool(rng.random() < 0.15)
            labelled.append(TruePerson(np.round(points, 2), known, tuple(map(float, box)), area, crowd=crowd))
            for _ in range(rng.integers(0, 3)):
                noise = rng.normal(0, rng.choice([0.5, 2, 8]), (17, 2))
                seen.append(FoundPerson(np.round(points + noise, 2), float(rng.choice([0.2, 0.5, rng.random()]))))
            if number == 3:
                seen += [FoundPerson(rng.uniform(0, 500, (17, 2)), 0.3 * float(rng.random())) for _ in range(25)]
        order = rng.permutation(len(seen))
        truths.append(labelled)
        found.append([seen[at] for at in order])
    return truths, found


def cocoapi(truths, found):
    """AP, AP50, AP75, AP_medium, AP_large and the same of AR, by pycocotools."""
    pycocotools = pytest.importorskip("pycocotools")
    assert pycocotools
    from pycocotools.coco import COCO as Data
    from pycocotools.cocoeval import COCOeval

    annotations, results = [], []
    for picture, (labelled, seen) in enumerate(zip(truths, found, strict=True), start=1):
        for one in labelled:
            values = np.column_stack([np.where(one.known[:, None], one.points, 0), 2.0 * one.known])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": picture,
                    "category_id": 1,
                    "keypoints": values.ravel().tolist(),
                    "num_keypoints": int(one.known.sum()),
                    "bbox": list(one.box),
                    "area": one.area,
                    "iscrowd": int(one.crowd),
                }
            )
        for one in seen:
            values = np.column_stack([one.points, np.ones(17)])
            results.append(
                {"image_id": picture, "category_id": 1, "keypoints": values.ravel().tolist(), "score": one.score}
            )
    with contextlib.redirect_stdout(io.StringIO()):
        data = Data()
        data.dataset = {
            "info": {},
            "images": [{"id": at + 1} for at in range(len(truths))],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.joints)}],
        }
        data.createIndex()
        evaluation = COCOeval(data, data.loadRes(results), "keypoints")
        evaluation.params.imgIds = list(range(1, len(truths) + 1))
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75", "AR_medium", "AR_large")
    return dict(zip(names, evaluation.stats.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_object_keypoint_precision_is_cocoapis(seed):
    truths, found = drawn_people(np.random.default_rng(seed), 12)
    theirs, ours = cocoapi(truths, found), evaluate_oks(truths, found, COCO.sigmas)
    assert 0.02 < theirs["AP"] < 0.95
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-9), name


def slow_posetrack(truths, found, joints):
    """Joint by joint with lists and loops, the curve as steps."""
    average = []
    for joint in range(joints):
        listed, count = [], 0
        for labelled, seen in zip(truths, found, strict=True):
            count += sum(bool(one.known[joint]) for one in labelled)
            share = [
                [
                    sum(
                        bool(truth.known[j]) and np.hypot(*(one.points[j] - truth.points[j])) <= 0.5 * truth.head
                        for j in range(joints)
                    )
                    / max(1, sum(truth.known))
                    for truth in labelled
                ]
                for one in seen
            ]
            owner = [
                max(range(len(labelled)), key=lambda g, p=p: share[p][g]) if labelled else -1 for p in range(len(seen))
            ]
            for p, one in enumerate(seen):
                g, right = owner[p], False
                rivals = [q for q in range(len(seen)) if owner[q] == g]
                if labelled and share[p][g] > 0 and p == max(rivals, key=lambda q, g=g: share[q][g]):
                    near = np.hypot(*(one.points[joint] - labelled[g].points[joint])) <= 0.5 * labelled[g].head
                    right = bool(labelled[g].known[joint] and near)
                listed.append((float(one.scores[joint]), right))
        listed.sort(key=lambda pair: -pair[0])
        area, hits = 0.0, 0
        precisions = []
        for place, (_, right) in enumerate(listed, start=1):
            hits += right
            precisions.append((hits / place, right))
        for place, (_, right) in enumerate(precisions):
            if right:
                area += max(value for value, _ in precisions[place:]) / count
        average.append(area if count else np.nan)
    return np.array(average)


@pytest.mark.parametrize("seed", range(3))
def test_posetracks_precision_is_what_loops_make_of_it(seed):
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(8):
        labelled = [
            HeadedPerson(rng.uniform(0, 60, (5, 2)), rng.random(5) < 0.7, float(rng.uniform(6, 20)))
            for _ in range(rng.integers(0, 4))
        ]
        seen = [
            ScoredPerson(one.points + rng.normal(0, rng.choice([2, 8]), (5, 2)), rng.random(5))
            for one in labelled
            for _ in range(rng.integers(0, 3))
        ]
        seen += [ScoredPerson(rng.uniform(0, 60, (5, 2)), rng.random(5)) for _ in range(rng.integers(0, 2))]
        truths.append(labelled)
        found.append(seen)
    np.testing.assert_allclose(posetrack_precision(truths, found, 5), slow_posetrack(truths, found, 5))


def test_posetracks_precision_by_hand():
    truth = HeadedPerson(np.array([[0.0, 0], [10, 0], [0, 0]]), np.array([True, True, False]), 10.0)
    near = ScoredPerson(np.array([[0, 5], [10, 5.1], [0, 0]]), np.array([0.9, 0.9, 0.9]))
    first, second, third = posetrack_precision([[truth]], [[near]], 3)
    assert (first, second) == (1, 0)
    assert np.isnan(third)
    stray = ScoredPerson(np.full((3, 2), 500.0), np.array([1.0, np.nan, 1.0]))
    assert posetrack_precision([[truth]], [[stray, near]], 3)[0] == 0.5
    assert posetrack_precision([[truth]], [[]], 3)[:2].tolist() == [0, 0]
    with pytest.raises(ValueError, match="0 pictures of found persons for 1 of labelled ones"):
        posetrack_precision([[truth]], [], 3)
    with pytest.raises(ValueError, match="0 pictures of found persons for 1"):
        evaluate_oks([[]], [], (0.1,))
