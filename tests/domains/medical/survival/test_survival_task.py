"""The task from a table to judged and written predictions, on a small cohort in which one gene decides."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from domains.medical.survival.figures import risk_groups
from domains.medical.survival.joining import join_patients
from domains.medical.survival.task import SurvivalTask
from pipelines.errors import CaseError
from pipelines.task import FinishedItem, SampleKey

SIMULATED = {"source": "simulated", "instances": [4, 6], "features": 5, "share": 0.5, "strength": 3.0, "noise": 0.0}
CMTA = {"name": "cmta", "dim": 16, "bag_widths": [], "group_widths": [8]}


def fitted(config):
    task = SurvivalTask(config)
    cases = task.read_cases().cases
    task.fit([case for case in cases if case.labels["fold"] != 0])
    return task, cases


def train(task, cases, *, steps=60, lr=0.02):
    torch.manual_seed(0)
    network = task.build_network()
    data = task.training_data(cases, seed=0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
    for step in range(steps):
        loss = task.loss_step(network, data.collate([data[SampleKey(step, at)] for at in range(len(data))]))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def judged(task, network, cases):
    predictor = task.predictor(network, device=torch.device("cpu"))
    results = {case.case_id: predictor.infer(predictor.read(task.item(case))) for case in cases}
    observed = {case.case_id: task.observe(case, results[case.case_id]) for case in cases}
    return results, observed, task.pooled(cases, observed)


@pytest.mark.parametrize("loss", ["nll", "ce", "cox"])
def test_a_short_training_finds_the_gene_that_decides(cohort, configure, loss):
    task, cases = fitted(configure(cohort, loss={"name": loss}))
    training = [case for case in cases if case.labels["fold"] != 0]
    network = train(task, training)
    tested = [case for case in cases if case.labels["fold"] == 0]
    _, observed, pooled = judged(task, network, tested)
    assert pooled["survival", "c_index"] > 0.7
    assert pooled["until 12 months", "auc"] > 0.7
    # what was observed is enough to judge again from a table, in a task that has seen nothing
    table = pd.DataFrame(observed.values(), index=list(observed)).to_dict("index")
    assert SurvivalTask(task.config).pooled(tested, table) == pooled
    missing = {name: seen for name, seen in observed.items() if name != tested[0].case_id}
    assert task.pooled(tested, missing)["survival", "c_index"] < pooled["survival", "c_index"]


def test_what_is_learned_comes_from_the_training_part(cohort, configure):
    config = configure(cohort)
    task, cases = fitted(config)
    training = [case for case in cases if case.labels["fold"] != 0]
    frame = pd.read_csv(cohort / "cohort.csv")
    other = frame["given_fold"] == 0
    frame.loc[other, "TP53_rnaseq"] += 1e4
    frame.loc[other, "survival_months"] *= 3
    frame.to_csv(cohort / "cohort.csv", index=False)
    again, _ = fitted(config)
    assert again.describe() == task.describe()
    assert torch.equal(again.build_network().scaling.centre, task.build_network().scaling.centre)
    assert len(training) == 40


def test_a_described_task_predicts_the_same(cohort, configure):
    task, cases = fitted(configure(cohort, loss={"name": "cox"}))
    description = task.describe()
    assert json.loads(json.dumps(description)) == description
    served = SurvivalTask.from_description(description)
    assert served.describe() == description
    network, copy = task.build_network(), served.build_network()
    copy.load_state_dict(network.state_dict())
    again = served.with_workflow(configure(cohort))
    for one, other in zip(
        *(judged(*pair, cases[:5])[0].values() for pair in ((task, network), (again, copy))), strict=True
    ):
        assert one.risk == other.risk
        np.testing.assert_array_equal(one.survival, other.survival)


def test_a_batch_looks_like_the_example(cohort, configure):
    task, cases = fitted(configure(cohort, data={"bags": SIMULATED}, model=CMTA))
    data = pickle.loads(pickle.dumps(task.training_data(cases[:6], seed=0)))
    batch, example = data.collate([data[SampleKey(0, at)] for at in range(2)]), task.example_batch(2)
    assert batch.keys() == example.keys()
    for name in ("genomics", "interval", "time", "event"):
        assert (batch[name].shape, batch[name].dtype) == (example[name].shape, example[name].dtype)
    assert batch["bags"].shape[::2] == example["bags"].shape[::2]
    losses = task.loss_step(task.build_network(), batch)
    assert set(losses) == {"loss", "alignment", "nll"}


def test_large_bags_are_drawn_from_anew_each_epoch_and_the_same_each_time(cohort, configure):
    task, cases = fitted(configure(cohort, data={"bags": SIMULATED}, model=CMTA, bags={"limit": 3}))
    data = task.training_data(cases[:4], seed=0)
    drawn = [data[SampleKey(epoch, 1)]["bag"] for epoch in range(6)]
    assert {tuple(bag.shape) for bag in drawn} == {(3, 5)}
    assert any(not torch.equal(drawn[0], one) for one in drawn[1:])
    assert torch.equal(drawn[3], data[SampleKey(3, 1)]["bag"])


def test_a_planted_signal_is_found_in_simulated_slides_and_told_as_simulated(cohort, configure):
    for model in ({"name": "slides", "hidden": 8, "dropout": 0.0}, CMTA):
        task, cases = fitted(configure(cohort, data={"bags": SIMULATED}, model=model))
        assert task.describe()["synthetic"]
        network = train(task, [case for case in cases if case.labels["fold"] != 0], steps=40)
        tested = [case for case in cases if case.labels["fold"] == 0]
        _, observed, pooled = judged(task, network, tested)
        assert pooled["survival", "c_index"] > 0.75
        assert all("SIMULATED" in figure.caption for figure in task.draw_set(tested, observed))


def test_the_worst_is_worse_than_any_prediction_and_the_truth_is_best(cohort, configure):
    task, cases = fitted(configure(cohort))
    network = task.build_network()
    results, _, _ = judged(task, network, cases[:30])
    for case in cases[:30]:
        rows = {row.metric: row.value for row in task.judge(case, results[case.case_id])}
        worst = {row.metric: row.value for row in task.judge(case, None)}
        assert rows.keys() == worst.keys() == {"integrated_brier", "nll"}
        assert all(rows[name] <= worst[name] for name in rows)


def test_patients_of_a_table_are_read_and_written(cohort, configure, tmp_path, draw_cohort):
    task, _ = fitted(configure(cohort))
    predictor = task.predictor(task.build_network(), device=torch.device("cpu"))
    fresh = draw_cohort(4, seed=5, two_slides=1).drop(columns=["survival_months", "censorship", "given_fold"])
    fresh.loc[2, "EGFR_cnv"] = np.nan
    fresh.loc[3, [name for name in fresh if name.endswith(("_rnaseq", "_cnv"))]] = np.nan
    fresh.to_csv(tmp_path / "new.csv", index=False)
    items = predictor.discover([tmp_path / "new.csv"])
    assert [item.item_id for item in items] == ["P-000", "P-001", "P-002", "P-003"]
    finished = []
    for item in items[:3]:
        written = predictor.write(item, predictor.infer(predictor.read(item)), tmp_path / item.item_id)
        assert all(path.is_file() for path in written.files)
        finished.append(FinishedItem(item.item_id, "new.csv", tmp_path / item.item_id))
    record = json.loads((tmp_path / "P-002" / "P-002.json").read_text())
    assert record["missing_features"] == 1
    curve = pd.read_csv(tmp_path / "P-002" / "P-002.survival.csv")
    assert curve["survival"].iloc[0] == 1
    assert (curve["survival"].diff().dropna() <= 0).all()
    with pytest.raises(CaseError, match="none of the 6 features has a value"):
        predictor.read(items[3])
    join_patients(finished, tmp_path, "digest")
    table = pd.read_csv(tmp_path / "patients.csv")
    assert sorted(table["patient"]) == ["P-000", "P-001", "P-002"]
    assert (table["risk"].diff().dropna() <= 0).all()


def test_a_table_that_lacks_columns_or_is_none_is_a_named_problem(cohort, configure, tmp_path, draw_cohort):
    task, _ = fitted(configure(cohort))
    predictor = task.predictor(task.build_network(), device=torch.device("cpu"))
    draw_cohort(3, two_slides=0).drop(columns=["TP53_rnaseq"]).to_csv(tmp_path / "less.csv", index=False)
    with pytest.raises(CaseError, match="lacks 1 of 6 columns that the model looks at: TP53_rnaseq"):
        predictor.read(predictor.discover([tmp_path / "less.csv"])[0])
    (tmp_path / "scan.nii").write_bytes(b"x")
    (item,) = predictor.discover([tmp_path / "scan.nii"])
    with pytest.raises(CaseError, match="not a table of patients"):
        predictor.read(item)


def test_groups_of_risk_are_made_within_each_model():
    risk = np.array([1.0, 2, 3, 4, 101, 102, 103, 104])
    assert risk_groups(risk, ["a"] * 4 + ["b"] * 4, 2).tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    assert risk_groups(risk, ["a"] * 8, 2).tolist() == [0] * 4 + [1] * 4


def test_figures_show_groups_calibration_and_patients(cohort, configure):
    task, cases = fitted(configure(cohort))
    results, observed, _ = judged(task, task.build_network(), cases)
    curves, calibration = task.draw_set(cases, observed)
    assert set(curves.data["group"]) == {"lower risk", "higher risk"}
    assert "Log-rank test: p" in curves.caption
    assert calibration.data["patients"].sum() == len(cases)
    (figure,) = task.draw(cases[0], results[cases[0].case_id])
    assert figure.image.dtype == np.uint8
    assert task.draw_set(cases[:5], observed) == []
