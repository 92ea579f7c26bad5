"""Seeds of phantoms: each belongs to one split."""

from diff2ct_training.phantom_seeds import phantom_split, training_seeds


def test_split_of_a_seed() -> None:
    assert [phantom_split(seed) for seed in (0, 999, 1000, 9999)] == ["test", "test", "val", "val"]
    assert {phantom_split(seed) for seed in training_seeds(3)} == {"train"} and training_seeds(3) == range(10_000, 10_003)
