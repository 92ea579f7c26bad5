"""The smallest real case as files, made in a process of its own so that the tests' process stays without torch: two X-rays of
a 16^3 body, the body, a checkpoint and translators both ways with random weights."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from diff2ct.checkpoint import save_checkpoint
from diff2ct.radiograph import write_radiograph
from diff2ct.translator import DIRECTIONS, save_translator
from diff2ct.volume_io import write_volume
from tiny import tiny_body, tiny_checkpoint, tiny_radiographs, tiny_translator

if __name__ == "__main__":
    folder, body = Path(sys.argv[1]), tiny_body()
    for name, radiograph in zip(("ap", "lateral"), tiny_radiographs(body), strict=True):
        write_radiograph(radiograph, folder / f"{name}.dcm")
    write_volume(body, folder / "truth.nrrd")
    save_checkpoint(folder / "tiny.safetensors", tiny_checkpoint())
    for direction in DIRECTIONS:
        save_translator(folder / f"{direction}.safetensors", tiny_translator(direction))
