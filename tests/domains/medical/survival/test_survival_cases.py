"""Tables of patients: what is read, what is joined, what is refused and how it is said."""

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from domains.medical.survival.cases import bag_path, read_folds, read_patients
from domains.medical.survival.data_settings import BagFiles, PatientData
from domains.medical.survival.grouping import AssayGroups, ModuleGroups, SignatureGroups, group_features
from domains.medical.survival.patients import load_features, load_table, match_columns
from domains.medical.survival.scaling import apply_scale, measure_scale
from pipelines.errors import DataError

GENES = ("TP53_rnaseq", "EGFR_rnaseq", "MYC_rnaseq", "RB1_rnaseq", "EGFR_cnv", "MYC_cnv")


def settings(folder, name="cohort.csv", **changes) -> PatientData:
    return PatientData.model_validate({"file": str(folder / name), **changes})


def test_rows_of_one_patient_are_one_case(cohort, draw_cohort):
    table = read_patients(settings(cohort, fold="given_fold", labels=["age"]))
    assert len(table) == 60
    first = table[0]
    assert first.case_id == first.group == "P-000"
    row = draw_cohort().iloc[0]
    assert first.labels["time"] == row["survival_months"]
    assert first.labels["event"] == 1 - row["censorship"]
    assert first.labels["fold"] == 0
    assert table[7].labels["age"] is None
    assert read_patients(settings(cohort, group="given_fold"))[4].group == "1"


def test_every_kind_of_file_gives_the_same_features(cohort, draw_cohort):
    frame = draw_cohort()
    frame.to_csv(cohort / "cohort.tsv", index=False, sep="\t")
    frame.to_parquet(cohort / "cohort.parquet")
    with zipfile.ZipFile(cohort / "cohort.csv.zip", "w") as archive:
        # as in MCAT's archives: a folder, and a plain CSV with the wrong ending
        archive.writestr("dataset_csv/", "")
        archive.writestr("dataset_csv/cohort.csv.zip", frame.to_csv(index=False))
    found = [
        load_features(cohort / name, case_id="case_id", names=GENES)
        for name in ("cohort.csv", "cohort.tsv", "cohort.parquet", "cohort.csv.zip")
    ]
    for one in found:
        assert one.case_ids == found[0].case_ids
        np.testing.assert_array_equal(one.values, found[0].values)
        np.testing.assert_allclose(one.row("P-009"), frame.loc[9, list(GENES)].astype(float), rtol=1e-6)
    assert found[0].row("nobody") is None


def test_a_table_that_changed_is_read_again(cohort, draw_cohort):
    before = load_features(cohort / "cohort.csv", case_id="case_id", names=GENES)
    frame = draw_cohort()
    frame["TP53_rnaseq"] += 1000.5
    frame.to_csv(cohort / "cohort.csv", index=False)
    after = load_features(cohort / "cohort.csv", case_id="case_id", names=GENES)
    np.testing.assert_allclose(after.values[:, 0], before.values[:, 0] + 1000.5, rtol=1e-4)


def test_patterns_choose_columns_in_the_order_of_the_table():
    columns = ["b_cnv", "age", "a_rnaseq", "a_cnv"]
    assert match_columns(columns, ["*_rnaseq", "*_cnv", "age"]) == ("b_cnv", "age", "a_rnaseq", "a_cnv")
    with pytest.raises(DataError, match="no column 'grade'"):
        match_columns(columns, ["grade", "*_mut"])


def _changed(folder, change):
    frame = pd.read_csv(folder / "cohort.csv")
    change(frame)
    frame.to_csv(folder / "cohort.csv", index=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda f: f.__setitem__("censorship", 2), "censorship is .*2.*; allowed are 0 and 1", id="event"),
        pytest.param(
            lambda f: f.__setitem__("survival_months", np.arange(len(f)) + 1.0),
            "P-000 has 2 rows that differ in 'survival_months'",
            id="rows differ",
        ),
        pytest.param(
            lambda f: f.rename(columns={"censorship": "status"}, inplace=True),
            "no column 'censorship'",
            id="column",
        ),
        pytest.param(
            lambda f: f.__setitem__("case_id", f["case_id"].str.replace("-", "/")),
            "60 problems\n  line 2: case_id 'P/000' has '/'",
            id="identifier",
        ),
        pytest.param(lambda f: f.__setitem__("survival_months", np.nan), "no patient has an outcome", id="no times"),
    ],
)
def test_what_is_wrong_is_named(cohort, change, message):
    _changed(cohort, change)
    with pytest.raises(DataError, match=message):
        read_patients(settings(cohort))


def test_a_patient_without_a_time_is_set_aside(cohort):
    _changed(cohort, lambda f: f.__setitem__("survival_months", f["survival_months"].where(f["case_id"] != "P-020", 0)))
    table = read_patients(settings(cohort))
    assert [one.case_id for one in table.excluded] == ["P-020"]
    assert "survival_months is" in table.excluded[0].reason


def test_events_are_read_from_either_column(cohort, draw_cohort):
    frame = draw_cohort()
    frame["dead"] = 1 - frame.pop("censorship")
    frame.to_csv(cohort / "other.csv", index=False)
    ours = read_patients(settings(cohort, "other.csv", event="dead"))
    assert [case.labels["event"] for case in ours] == [c.labels["event"] for c in read_patients(settings(cohort))]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("high", "TP53_rnaseq in line 12 is 'high', not a number"),
        ("inf", "TP53_rnaseq in line 12 is 'inf', not a number"),
    ],
)
def test_a_feature_that_is_no_number_is_named(cohort, cell, message):
    text = (cohort / "cohort.csv").read_text().splitlines()
    cells = text[11].split(",")
    cells[5] = cell
    text[11] = ",".join(cells)
    (cohort / "cohort.csv").write_text("\n".join(text))
    with pytest.raises(DataError, match=message):
        load_features(cohort / "cohort.csv", case_id="case_id", names=GENES)


def test_missing_tables_and_columns_are_named(cohort):
    with pytest.raises(DataError, match=r"no table 'none.csv'"):
        load_table(cohort / "none.csv", case_id="case_id")
    with pytest.raises(DataError, match="no column 'patient'"):
        load_table(cohort / "cohort.csv", case_id="patient")
    with pytest.raises(DataError, match=r"lacks 1 of 2 columns .* KRAS_rnaseq"):
        load_features(cohort / "cohort.csv", case_id="case_id", names=("TP53_rnaseq", "KRAS_rnaseq"))


def test_folds_come_from_split_files(tmp_path, cohort):
    for number in range(3):
        own = [f"P-{at:03d}" for at in range(60) if at % 3 == number]
        rest = [f"P-{at:03d}" for at in range(60) if at % 3 != number]
        pd.DataFrame({"train": pd.Series(rest), "val": pd.Series(own)}).to_csv(tmp_path / f"splits_{number}.csv")
    table = read_patients(settings(cohort, folds=str(tmp_path)))
    assert [case.labels["fold"] for case in table[:6]] == [0, 1, 2, 0, 1, 2]
    pd.DataFrame({"train": [], "val": []}).to_csv(tmp_path / "splits_2.csv")
    with pytest.raises(DataError, match="P-002 is in the test part of no split file"):
        read_patients(settings(cohort, folds=str(tmp_path)))
    pd.DataFrame({"train": ["P-001"], "val": ["P-000"]}).to_csv(tmp_path / "splits_2.csv")
    with pytest.raises(DataError, match=r"P-000 is in the test part of splits_0\.csv and splits_2\.csv"):
        read_folds(tmp_path)


def test_bags_are_found_as_slide_features_lays_them(tmp_path):
    files = BagFiles(folder=tmp_path, suffix=".h5")
    assert bag_path("S1.svs", files, Path("elsewhere")) == tmp_path / "S1.h5"
    (tmp_path / "S1").mkdir()
    (tmp_path / "S1" / "S1.h5").touch()
    assert bag_path("S1.svs", files, Path("elsewhere")) == tmp_path / "S1" / "S1.h5"
    (tmp_path / "S1.h5").touch()
    assert bag_path("S1.svs", files, Path("elsewhere")) == tmp_path / "S1.h5"


def test_robust_scales_pass_over_single_cells():
    values = np.random.default_rng(0).normal(3, 2, (400, 2))
    values[5, 0] = 1e6
    centre, scale = measure_scale(values, "robust")
    assert centre[0] == pytest.approx(3, abs=0.3)
    assert scale[0] == pytest.approx(2, abs=0.3)
    assert measure_scale(values, "standard")[1][0] > 1e4
    values[:, 1] = np.nan
    values[:3, 0] = np.nan
    scaled = apply_scale(values, *measure_scale(values, "robust"), clip=3)
    assert np.isfinite(scaled).all()
    assert scaled[5, 0] == 3
    assert (scaled[:3] == 0).all()


def test_groups_by_assay_signature_and_module(tmp_path):
    names = (*GENES, "age")
    scaled = np.random.default_rng(0).normal(size=(50, len(names)))
    scaled[:, 1] = scaled[:, 0] + 0.01 * scaled[:, 1]
    scaled[:, 3] = scaled[:, 2] + 0.01 * scaled[:, 3]
    by_assay = group_features(AssayGroups(), names, ["age"], scaled, seed=0)
    assert by_assay == {"rnaseq": (0, 1, 2, 3), "cnv": (4, 5), "covariates": (6,)}
    (tmp_path / "s.csv").write_text("Suppressors,Oncogenes\nTP53,EGFR\nRB1,MYC\n,TP53\n")
    signatures = SignatureGroups(by="signatures", file=str(tmp_path / "s.csv"))
    assert group_features(signatures, names, [], scaled, seed=0) == {
        "Suppressors": (0, 3),
        "Oncogenes": (1, 4, 2, 5, 0),
    }
    modules = group_features(ModuleGroups(by="modules", count=4), names, ["age"], scaled, seed=0)
    assert sorted(place for name, places in modules.items() if name != "covariates" for place in places) == [*range(6)]
    together = {place: name for name, places in modules.items() for place in places}
    assert together[0] == together[1]
    assert together[2] == together[3]
    (tmp_path / "s.csv").write_text("Kinases\nAAK1\n")
    with pytest.raises(DataError, match="no feature of the table is in Kinases"):
        group_features(signatures, names, [], scaled, seed=0)


def test_the_cohorts_of_tcga_are_read_as_their_splits_count_them(data_root):
    for name, patients in (("blca", 373), ("luad", 453)):
        folder = data_root / "tcga_survival"
        if not folder.is_dir():
            pytest.skip("needs tcga_survival among the real data")
        found = settings(folder, f"tcga_{name}.csv.zip", folds=str(folder / "splits" / f"tcga_{name}"))
        table = read_patients(found)
        assert len(table) == patients
        assert {case.labels["fold"] for case in table} == {0, 1, 2, 3, 4}
        columns = load_table(found.file, case_id="case_id").columns
        features = load_features(found.file, case_id="case_id", names=match_columns(list(columns), found.features))
        assert features.values.shape[0] == patients
        assert np.isfinite(features.values).all()
