import pytest
import torch

from diff2ct_training.image_pool import ImagePool


def numbered(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()


def values(images: torch.Tensor) -> list[float]:
    return images[:, 0, 0, 0].tolist()


def test_a_pool_that_is_not_full_hands_back_what_it_gets() -> None:
    pool = ImagePool(3, 4)
    assert values(pool.exchange(numbered(1, 2, 3), [0, 0, 0])) == [1, 2, 3]
    assert values(pool.tensors["images"]) == [1, 2, 3]


def test_a_full_pool_hands_back_an_earlier_image_half_of_the_time() -> None:
    pool = ImagePool(10, 4)
    pool.exchange(numbered(*range(10)), range(10))
    handed = values(pool.exchange(numbered(*range(100, 1100)), range(1000)))
    fresh = sum(value == 100 + n for n, value in enumerate(handed))
    assert 440 < fresh < 560
    # what was handed back or still lies there is all that ever came, each once
    assert sorted(handed + values(pool.tensors["images"])) == [*range(10), *range(100, 1100)]


def test_the_seed_of_an_image_decides_whatever_the_batch() -> None:
    one, many = ImagePool(2, 4), ImagePool(2, 4)
    images = numbered(*range(40))
    single = [values(one.exchange(images[n : n + 1], [n]))[0] for n in range(40)]
    assert single == values(many.exchange(images, range(40)))


def test_its_tensors_are_all_it_needs_to_go_on() -> None:
    whole, stopped, resumed = ImagePool(4, 4), ImagePool(4, 4), ImagePool(4, 4)
    for pool in (whole, stopped):
        pool.exchange(numbered(*range(30)), range(30))
    for name, tensor in stopped.tensors.items():
        resumed.tensors[name].copy_(tensor)
    later = numbered(*range(50, 80))
    assert values(whole.exchange(later, range(30))) == values(resumed.exchange(later, range(30)))


def test_no_pool_and_no_gradient() -> None:
    made = numbered(1.0, 2.0).requires_grad_()
    handed = ImagePool(0, 4).exchange(made, [0, 1])
    assert values(handed) == [1, 2] and not handed.requires_grad
    with pytest.raises(ValueError, match="capacity"):
        ImagePool(-1, 4)
