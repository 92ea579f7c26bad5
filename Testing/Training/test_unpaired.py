from pathlib import Path

import numpy as np
import pytest
import torch

from diff2ct.geometry import View
from diff2ct.translator import STYLE_RANGE
from diff2ct_training.acquisitions import acquisition_path
from diff2ct_training.unpaired import Domain, UnpairedStream, UnpairedXrays
from diff2ct_training.xray_file import write_xrays
from styles import store, xray


def domain(folder: Path, **views: View) -> Domain:
    """One X-ray of 24 x 24 pixels per name, its brightness growing to the right."""
    for name, view in views.items():
        store(folder, name, xray(view))
    return Domain.of_folder(folder, "make some")


def stream(drrs: Domain, films: Domain, length: int = 40) -> UnpairedStream:
    return UnpairedStream(drrs, films, size=16, length=length, seed=3)


def samples_of(drrs: Domain, films: Domain) -> list[UnpairedXrays]:
    samples = stream(drrs, films)
    return [samples[n] for n in range(len(samples))]


def test_frontal_goes_with_frontal_and_lateral_with_lateral(tmp_path: Path) -> None:
    drrs = domain(tmp_path / "drr", a_ap=View.AP, b_pa=View.PA, c_ll=View.LL)
    films = domain(tmp_path / "film", d_pa=View.PA, e_rl=View.RL)
    assert (len(drrs.frontal), len(drrs.lateral), len(films)) == (2, 1, 2)
    names = {sample.name for sample in samples_of(drrs, films)}
    assert names == {f"{a}.xray000.npz with {b}.xray000.npz" for a, b in (("a_ap", "d_pa"), ("b_pa", "d_pa"), ("c_ll", "e_rl"))}


def test_a_kind_that_one_style_lacks_is_left_out_and_none_in_common_is_refused(tmp_path: Path) -> None:
    both, lateral = domain(tmp_path / "a", a=View.AP, b=View.LL), domain(tmp_path / "b", c=View.LL)
    assert {sample.name for sample in samples_of(both, lateral)} == {"b.xray000.npz with c.xray000.npz"}
    with pytest.raises(ValueError, match="all DRRs are frontal, all films lateral"):
        stream(domain(tmp_path / "c", a=View.PA), lateral)


def test_samples_are_whole_images_never_flipped_and_the_same_again(tmp_path: Path) -> None:
    drrs, films = domain(tmp_path / "a", a=View.AP), domain(tmp_path / "b", b=View.PA)
    first, again = stream(drrs, films)[5], stream(drrs, films)[5]
    assert first.drr.shape == first.film.shape == first.valid.shape == (1, 16, 16)
    assert torch.equal(first.drr, again.drr) and first.seed == again.seed != stream(drrs, films)[6].seed
    for sample in samples_of(drrs, films):
        for image in (sample.drr, sample.film):
            assert float(image.abs().max()) <= 1 and float(image.std()) == pytest.approx(1 / STYLE_RANGE, rel=0.1)
            assert float(image[..., -3:].mean()) > float(image[..., :3].mean()) + 0.2, "brightness grows to the right"


def test_a_run_by_the_clock_may_ask_for_more_samples_than_its_steps_would(tmp_path: Path) -> None:
    drrs, films = domain(tmp_path / "a", a=View.AP), domain(tmp_path / "b", b=View.PA)
    few, many = stream(drrs, films, length=2), stream(drrs, films)
    assert len(few) == 2 and few[7].seed == many[7].seed


def test_both_images_show_only_what_both_collimators_leave_open(tmp_path: Path) -> None:
    top, left = np.ones((24, 24), bool), np.ones((24, 24), bool)
    top[:6], left[:, :9] = False, False
    store(tmp_path / "a", "a", xray(View.AP), top)
    store(tmp_path / "b", "b", xray(View.AP), left)
    drrs, films = (Domain.of_folder(tmp_path / name, "") for name in "ab")
    sample = stream(drrs, films)[0]
    assert not sample.valid[0, :4].any() and not sample.valid[0, :, :6].any() and sample.valid[0, 4:, 6:].all()
    for image in (sample.drr, sample.film):
        assert not image[~sample.valid].any() and image[sample.valid].all()


def test_files_that_are_missing_or_damaged_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none are stored in .*empty; make some"):
        Domain.of_folder(tmp_path / "empty", "make some")
    drrs = domain(tmp_path / "a", a=View.AP)
    broken = acquisition_path(tmp_path / "a", "b", 0)
    broken.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"b\.xray000\.npz cannot be read"):
        Domain.of_folder(tmp_path / "a", "")
    image, beam = xray(View.AP)
    write_xrays(broken, [image], [np.zeros((24, 24), bool)], [beam])
    films = Domain.of_folder(tmp_path / "a", "")
    with pytest.raises(ValueError, match=r"b\.xray000\.npz have no valid place in common"):
        samples_of(drrs, films)
