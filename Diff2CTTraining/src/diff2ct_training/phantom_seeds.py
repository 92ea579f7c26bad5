"""Whose the phantoms of a seed are, and their names: what is evaluated on is never trained on, on any machine."""

TEST_SEEDS, VALIDATION_SEEDS = range(1000), range(1000, 10_000)
"""Phantoms of these seeds are test and validation cases, all others training cases."""
FIRST_TRAINING_SEED = VALIDATION_SEEDS.stop


def training_seeds(count: int) -> range:
    return range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + count)


def phantom_split(seed: int) -> str:
    return "test" if seed in TEST_SEEDS else "val" if seed in VALIDATION_SEEDS else "train"


def phantom_case_name(seed: int) -> str:
    """Of the prepared case."""
    return f"phantom_{seed:06d}"


def phantom_name(seed: int) -> str:
    """In results of an evaluation on phantoms that are rendered for it."""
    return f"phantom_{seed:03d}"
